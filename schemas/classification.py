"""A classification: the one answer that was served for a record."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.record import RecordId


class Classification(BaseModel):
    """The answer of exactly one model to one record. The first one stored is the one that was served."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    record_id: RecordId
    label: str
    """One of the use case's ``labels``: its ``positive`` one where ``probability >= threshold``."""
    probability: float = Field(ge=0.0, le=1.0)
    """The model's probability of the use case's ``positive`` label."""
    model_version: str
    """``<training date>/<run_id>``, the model's folder below ``models/``."""
    generation: int = Field(ge=1)
    """The pointer's generation at the time of the answer: it grows by one with each promotion or rollback."""
    event_time: AwareDatetime
    """The record's own time."""
    classified_at: AwareDatetime
    stale: bool = False
    """True when Datastore was out of reach and the pointer could not be checked within its hard bound."""
