"""A comparison: what a shadow says of a record, beside the answer that was served."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.record import EventTime, RecordId


class Comparison(BaseModel):
    """Sent to the topic ``comparisons`` and filed by the archive. A record that is delivered twice may be compared
    twice; who reads comparisons takes one for each ``record_id`` and ``shadow_version``."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    record_id: RecordId
    event_time: EventTime
    """The record's own time. The archive files the comparison under this date."""
    compared_at: AwareDatetime
    generation: int = Field(ge=1)
    """The pointer's, when the shadow scored."""
    served_version: str
    """The model whose answer was served: the champion, or a canary."""
    served_label: str
    served_probability: float = Field(ge=0.0, le=1.0)
    shadow_version: str
    shadow_label: str
    shadow_probability: float = Field(ge=0.0, le=1.0)
