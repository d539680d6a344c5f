"""The settings of the function ``ingest_fast``."""

from pydantic import Field

from functions.runtime import settings


class Settings(settings.Settings):
    """Environment variables; see :class:`functions.runtime.settings.Settings`."""

    record_ttl_days: int = Field(default=90, ge=1, le=3650)
    """Time to live, in days, of a record in Datastore. The archive keeps the record."""
