"""A record: what a publisher knows about one thing before its outcome is known."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema, core_schema

MAX_RECORD_BYTES = 1_000_000
"""Longest document of a record. Its copy in Datastore, an entity of at most 1 MiB, must hold it
(https://cloud.google.com/datastore/docs/concepts/limits); and ten times as much of small values would, once it is read,
be a gigabyte and end an instance."""

RecordId = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^(_?[A-Za-z0-9.:-][A-Za-z0-9._:-]*|_)$")
]
"""The publisher's own id, and the idempotency key of the whole system. It is safe in a path, a Datastore
key name and a URL, so it is never escaped. It does not begin with two underscores: Datastore keeps such names for
itself, and refuses a whole request for one of them."""

_HOUR, _SIXTIETH = "([01][0-9]|2[0-3])", "[0-5][0-9]"
_RFC_3339 = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_HOUR}:{_SIXTIETH}:{_SIXTIETH}(\.[0-9]+)?(Z|[+-]{_HOUR}:{_SIXTIETH})$"

_NOT_IN_FULL = (
    "expected RFC 3339 with a zone, such as 2013-01-31T10:15:00Z: hours 00 to 23, minutes and seconds 00 to 59 (no "
    "leap second, no hour 24)"
)


class _WrittenInFull:
    """Refuses what is a moment to pydantic and not to others. JSON is judged without a call of Python, which would
    cost as much as reading six other fields."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        moment = handler(source)
        text = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=_RFC_3339, strict=True),
            custom_error_type="rfc_3339",
            custom_error_message=_NOT_IN_FULL,
        )
        return core_schema.json_or_python_schema(
            json_schema=core_schema.chain_schema([text, moment]),
            python_schema=core_schema.no_info_before_validator_function(_written_in_full, moment),
        )

    @staticmethod
    def __get_pydantic_json_schema__(_schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


def _written_in_full(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and re.fullmatch(_RFC_3339, value)):
        return value
    raise ValueError(_NOT_IN_FULL)


EventTime = Annotated[
    AwareDatetime, Field(ge=datetime(2, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC)), _WrittenInFull
]
"""A moment, as RFC 3339 with a zone. What pydantic would read besides (a number of seconds, a space for the T), Spark
and other readers would not. Leap seconds are refused: Python, Spark and Datastore have no such moment. Digits beyond
the microsecond are dropped. The first and the last year are left out: in another zone they lie outside the calendar."""

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
