"""The REST form of an API follows google/api/http.proto."""

import pytest

from laptop.errors import ServiceError
from laptop.rest import select


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("done", {"done": True}),
        ("done,error", {"done": True}),
        ("metadata.state", {"metadata": {"state": "RUNNING"}}),
        ("metadata/state,done", {"metadata": {"state": "RUNNING"}, "done": True}),
        ("jobs(id,state)", {"jobs": [{"id": 1, "state": "A"}, {"id": 2, "state": "B"}]}),
        ("jobs.id", {"jobs": [{"id": 1}, {"id": 2}]}),
        ("*", {"done": True, "metadata": {"state": "RUNNING", "x": 1},
               "jobs": [{"id": 1, "state": "A"}, {"id": 2, "state": "B"}]}),
        ("nothing", {}),
    ],
)  # fmt: skip
def test_a_partial_response_holds_just_the_named_fields(fields: str, expected: dict) -> None:
    """``fields=`` selects as https://cloud.google.com/apis/docs/system-parameters describes."""
    document = {
        "done": True,
        "metadata": {"state": "RUNNING", "x": 1},
        "jobs": [{"id": 1, "state": "A"}, {"id": 2, "state": "B"}],
    }
    assert select(document, fields) == expected


def test_a_field_selection_that_cannot_be_read_is_refused() -> None:
    """A mistake in ``fields=`` is INVALID_ARGUMENT, not an empty answer."""
    with pytest.raises(ServiceError, match="cannot read"):
        select({"a": 1}, "a,,b")
