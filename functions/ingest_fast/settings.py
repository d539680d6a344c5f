"""The settings of ``ingest_fast``."""

from pydantic import Field

from functions.runtime import settings


class Settings(settings.Settings):
    """Environment variables; see :class:`functions.runtime.settings.Settings`."""

    record_ttl_days: int = Field(default=90, ge=1, le=3650)
    """After this many days Datastore may drop a mirrored record. The archive keeps it."""
