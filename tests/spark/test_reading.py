"""How a task of Spark's reads the archive's lines, beside what the class says of them (``test_convert.py``)."""

from dataclasses import replace

import pyarrow as pa
import pytest
from pydantic import field_validator

from schemas.features import Features
from spark import reading
from tests.use_cases.parcels import PARCELS


class Hungry(Features):
    """It wants more than there is."""

    depot: str

    @field_validator("depot")
    @classmethod
    def _takes_all(cls, value: str) -> str:
        raise MemoryError


def test_want_of_memory_refuses_no_line() -> None:
    """The task fails, and Spark begins it again: else good lines would be told as broken, and missing in the model."""
    line = b'{"record_id":"a","event_time":"2013-01-01T00:00:00Z","features":{"depot":"A"}}'
    batch = pa.RecordBatch.from_arrays([pa.array([line]), pa.array(["gs://a/b"])], ["line", "object"])
    with pytest.raises(MemoryError):
        list(reading._judged(iter([batch]), reading._record_columns(replace(PARCELS, features=Hungry))))
