"""The settings of ``classify``, for both its entry points."""

from pydantic import Field

from functions.runtime import settings


class Settings(settings.Settings):
    """Environment variables; see :class:`functions.runtime.settings.Settings`."""

    models_bucket: str = Field(min_length=3, max_length=222)
    """The only bucket that models are loaded from, whatever the pointer says."""
    classifications_topic: settings.Topic = "classifications"
    comparisons_topic: settings.Topic = "comparisons"
    """What a shadow says goes there, beside what was served."""
