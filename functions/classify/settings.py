"""The settings of both entry points of ``classify``."""

from pydantic import Field

from functions.runtime import settings


class Settings(settings.Settings):
    """Environment variables; see :class:`functions.runtime.settings.Settings`."""

    models_bucket: str = Field(min_length=3, max_length=222)
    """The only bucket that models are loaded from, whatever the pointer names."""
    classifications_topic: settings.Topic = "classifications"
    """The topic that receives the answers to pushed records."""
    comparisons_topic: settings.Topic = "comparisons"
    """The topic that receives each answer of a shadow together with the served one."""
