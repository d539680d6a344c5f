"""A record: what a publisher knows about one thing before its outcome is known."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

RecordId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]
"""The publisher's own id, and the idempotency key of the whole system. It is safe in a path, a Datastore
key name and a URL, so it is never escaped."""

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _written_in_full(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise ValueError("expected RFC 3339 with a zone, such as 2013-01-31T10:15:00Z")


EventTime = Annotated[
    AwareDatetime,
    Field(ge=datetime(2, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC)),
    BeforeValidator(_written_in_full, json_schema_input_type=AwareDatetime),
]
"""A moment, as RFC 3339 with a zone. What pydantic would read besides (a number of seconds, a space for the T), Spark
and other readers would not. The first and the last year are left out: in another zone they lie outside the calendar."""

Features = TypeVar("Features", bound=BaseModel)


class Record(BaseModel, Generic[Features]):
    """One record, with the features of its use case (``Record[FlightFeatures]``).

    Unknown fields are ignored here and kept by the archive, which stores the document as it was sent, so a
    newer publisher does not break an older model.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    record_id: RecordId
    event_time: EventTime
    """When the thing happens, or is planned to."""
    features: Features
