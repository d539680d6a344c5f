"""A label: the outcome of a record, known later."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from schemas.record import EventTime, RecordId

LABEL_LENGTH = 64


class Label(BaseModel):
    """What became of ``record_id``. A later label for the same record replaces an earlier one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    record_id: RecordId
    label: Annotated[str, StringConstraints(min_length=1, max_length=LABEL_LENGTH)]
    """One of the use case's ``labels``; the archive refuses any other as a dead letter."""
    event_time: EventTime
    """When the outcome was known. The archive files the label under this date."""
