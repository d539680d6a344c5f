"""A record: what a publisher knows about one thing before its outcome is known."""

from typing import Annotated, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

RecordId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]
"""The publisher's own id, and the idempotency key of the whole system. It is safe in a path, a Datastore
key name and a URL, so it is never escaped."""

Features = TypeVar("Features", bound=BaseModel)


class Record(BaseModel, Generic[Features]):
    """One record, with the features of its use case (``Record[FlightFeatures]``).

    Unknown fields are ignored here and kept by the archive, which stores the document as it was sent, so a
    newer publisher does not break an older model.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    record_id: RecordId
    event_time: AwareDatetime
    """When the thing happens, or is planned to. RFC 3339 with a zone; a naive time is refused."""
    features: Features
