"""Plan names exactly what differs; apply makes it so, once."""

from typing import Any

import pytest

from lunation.deploy.plan import ApplyError, apply, destroy, plan
from lunation.deploy.resource import Resource, differences


class Thing(Resource):
    """A resource in a dictionary."""

    kind = "thing"

    def __init__(self, name: str, wanted: dict[str, Any], there: dict[str, Any], keeps_data: bool = False) -> None:
        super().__init__(name)
        self.wanted = wanted
        self.there = there
        self.keeps_data = keeps_data
        self.fail = False

    def desired(self, clients: Any) -> dict[str, Any]:
        """As wanted."""
        return self.wanted

    def read(self, clients: Any) -> dict[str, Any] | None:
        """As it is there."""
        return self.there.get(self.name)

    def create(self, clients: Any) -> None:
        """Put it there."""
        if self.fail:
            raise RuntimeError("quota")
        self.there[self.name] = {**self.wanted, "made_by_service": 1}

    def update(self, clients: Any, changed: list[str]) -> None:
        """Only the fields that changed."""
        for name in changed:
            self.there[self.name][name] = self.wanted[name]

    def delete(self, clients: Any) -> None:
        """Take it away."""
        del self.there[self.name]


CLIENTS: Any = None


@pytest.mark.parametrize(
    ("desired", "actual", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": 2}, [("a", 2, 1)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": 4}}, [("a.c", 3, 2)]),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", [2, 1], [1, 2])]),
        ({"a": 1}, {}, [("a", None, 1)]),
        ({"a": [], "b": "", "c": False, "d": 0, "e": {}}, {}, []),
    ],
)
def test_a_difference_is_what_is_declared_and_not_so(desired: dict, actual: dict, expected: list) -> None:
    """What the service adds is none; an empty default is none; order in a list counts."""
    assert list(differences(desired, actual)) == expected


def test_applying_twice_changes_nothing_the_second_time() -> None:
    """Create, then unchanged; a drift by hand is a change of just that field."""
    there: dict[str, Any] = {}
    rows = [Thing("one", {"size": 1, "label": "x"}, there), Thing("two", {"size": 2}, there)]
    assert [change.action for change in apply(rows, CLIENTS)] == ["create", "create"]
    assert [change.action for change in apply(rows, CLIENTS)] == ["unchanged", "unchanged"]
    there["one"]["size"] = 9
    (change,) = [change for change in plan(rows, CLIENTS) if change.action != "unchanged"]
    assert (change.address, change.fields) == ("thing/one", [("size", 9, 1)])
    apply(rows, CLIENTS)
    assert there["one"]["size"] == 1


def test_a_failure_names_the_resource_and_the_next_run_goes_on() -> None:
    """What came before stays; what failed is made by the next run."""
    there: dict[str, Any] = {}
    rows = [Thing("one", {"size": 1}, there), Thing("two", {"size": 2}, there), Thing("three", {}, there)]
    rows[1].fail = True
    with pytest.raises(ApplyError, match="thing/two: RuntimeError: quota"):
        apply(rows, CLIENTS)
    assert set(there) == {"one"}
    rows[1].fail = False
    assert [change.action for change in apply(rows, CLIENTS)] == ["unchanged", "create", "create"]


def test_destroy_goes_backwards_and_keeps_data() -> None:
    """Dependents first; what holds data stays and is listed."""
    there: dict[str, Any] = {}
    rows = [Thing("data", {}, there, keeps_data=True), Thing("one", {}, there), Thing("two", {}, there)]
    apply(rows, CLIENTS)
    done = destroy(rows, CLIENTS)
    assert [(change.address, change.action) for change in done] == [
        ("thing/two", "delete"),
        ("thing/one", "delete"),
        ("thing/data", "keep"),
    ]
    assert set(there) == {"data"}
