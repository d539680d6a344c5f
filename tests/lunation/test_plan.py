"""Plan names exactly what differs; apply makes it so, once."""

from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import Aborted, Conflict, Forbidden

from lunation.deploy.plan import ApplyError, OutdatedError, apply, check, destroy, plan
from lunation.deploy.resource import UNKNOWN, Resource, differences


class Thing(Resource):
    """A resource in a dictionary."""

    kind = "thing"
    about = "a thing"
    service = api = managed_with = ""
    fixed = frozenset({"place"})
    holds = "its leaves"

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


CLIENTS: Any = SimpleNamespace(project="local-dev")


@pytest.mark.parametrize(
    ("desired", "actual", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": 2}, [("a", 2, 1)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": 4}}, [("a.c", 3, 2)]),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", [2, 1], [1, 2])]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, []),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("a[0].b", 2, 1)]),
        ({"a": [{"b": 1}]}, {"a": []}, [("a", [], [{"b": 1}])]),
        ({"a": 1}, {}, [("a", None, 1)]),
        ({"a": [], "b": "", "c": False, "d": 0, "e": {}}, {}, []),
    ],
)
def test_a_difference_is_what_is_declared_and_not_so(desired: dict, actual: dict, expected: list) -> None:
    """What the service adds is none, also inside a list; an empty default is none; order in a list counts."""
    assert list(differences(desired, actual)) == expected


def test_in_a_map_that_is_ours_alone_an_entry_too_many_is_a_difference() -> None:
    """A variable that somebody added to a function by hand is shown, before the next revision drops it."""
    desired, actual = (
        {"env": {"a": "1"}, "labels": {"x": "1"}},
        {"env": {"a": "1", "b": "2"}, "labels": {"x": "1", "y": "2"}},
    )
    assert list(differences(desired, actual, exact=frozenset({"env"}))) == [("env.b", "2", None)]


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
    with pytest.raises(ApplyError, match="thing/two: quota"):
        apply(rows, CLIENTS)
    assert set(there) == {"one"}
    rows[1].fail = False
    assert [change.action for change in apply(rows, CLIENTS)] == ["unchanged", "create", "create"]


def test_what_nothing_needs_does_not_hold_up_the_rest() -> None:
    """An alert that cannot be made is told at the end, after everything else was made."""
    there: dict[str, Any] = {}

    class Alert(Thing):
        needed_by_none = True

    rows = [Alert("one", {}, there), Alert("two", {}, there), Thing("three", {}, there)]
    rows[0].fail = rows[1].fail = True
    with pytest.raises(ApplyError, match="thing/one: quota; thing/two: quota"):
        apply(rows, CLIENTS)
    assert set(there) == {"three"}


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


def test_what_cannot_be_changed_is_replaced_unless_it_keeps_data() -> None:
    """A new place means another thing; one that keeps data is refused, with the value that it has."""
    there: dict[str, Any] = {}
    apply([Thing("one", {"place": "here", "size": 1}, there)], CLIENTS)
    moved = Thing("one", {"place": "there", "size": 1}, there)
    (change,) = plan([moved], CLIENTS)
    assert (change.action, change.fields) == ("replace", [("place", "here", "there")])
    assert change.summary == "with it go its leaves"
    apply([moved], CLIENTS)
    assert there["one"]["place"] == "there"
    with pytest.raises(ApplyError, match=r"place is 'there' and cannot become 'here'.*keeps data"):
        plan([Thing("one", {"place": "here"}, there, keeps_data=True)], CLIENTS)


def test_a_replacement_waits_until_the_name_is_free() -> None:
    """A service that still knows what was just deleted is asked again; a name that somebody else has stays refused."""
    waited: list[float] = []
    there: dict[str, Any] = {}

    class Slow(Thing):
        refusals = 2

        def create(self, clients: Any) -> None:
            self.refusals -= 1
            if self.refusals >= 0:
                raise Conflict("it is being deleted")
            super().create(clients)

    apply([Thing("one", {"place": "here"}, there)], CLIENTS)
    apply([Slow("one", {"place": "there"}, there)], CLIENTS, wait=waited.append)
    assert there["one"]["place"] == "there"
    assert waited == [2, 5]
    with pytest.raises(ApplyError, match=r"thing/two: .*being deleted"):
        apply([Slow("two", {}, there)], CLIENTS, wait=waited.append)
    assert len(waited) == 2


def test_what_an_attempt_left_half_done_is_gone_on_with() -> None:
    """Each attempt looks anew: a service may refuse a call, and have made the thing all the same."""
    there: dict[str, Any] = {}

    class Half(Thing):
        def create(self, clients: Any) -> None:
            self.there[self.name] = {"size": 0}
            raise Aborted("unable to queue the operation")

    rows = [Half("one", {"size": 1}, there)]
    planned = plan(rows, CLIENTS)
    assert [change.action for change in apply(rows, CLIENTS, planned=planned, wait=lambda _: None)] == ["create"]
    assert there == {"one": {"size": 1}}


def test_a_replacement_that_was_cut_short_goes_on_by_its_plan() -> None:
    """Deleted and not made again yet: the plan that said so still holds; what was not in it does not."""
    there: dict[str, Any] = {}
    apply([Thing("one", {"place": "here"}, there)], CLIENTS)
    moved = [Thing("one", {"place": "there"}, there)]
    planned = plan(moved, CLIENTS)
    moved[0].delete(CLIENTS)
    check(planned, plan(moved, CLIENTS))
    apply(moved, CLIENTS, planned=planned)
    assert there["one"]["place"] == "there"
    check(planned, plan(moved, CLIENTS))


def test_what_is_part_of_a_replaced_thing_is_made_again_with_it() -> None:
    """As a bucket's files: planned as such beforehand, so that the plan is what is done."""
    there: dict[str, Any] = {}

    class Box(Thing):
        def delete(self, clients: Any) -> None:
            there.clear()

    def rows(place: str) -> list[Thing]:
        part = Thing("part", {"size": 1}, there)
        part.within = "thing/box"
        return [Box("box", {"place": place}, there), part, Thing("other", {}, {"other": {}})]

    apply(rows("here"), CLIENTS)
    planned = plan(rows("there"), CLIENTS)
    assert [change.action for change in planned] == ["replace", "create", "unchanged"]
    assert [change.action for change in apply(rows("there"), CLIENTS, planned=planned)] == [
        "replace",
        "create",
        "unchanged",
    ]


def test_what_is_no_longer_declared_is_deleted() -> None:
    """A row that left the table is planned as a deletion, and deleted last."""
    there: dict[str, Any] = {}

    class Labelled(Thing):
        @classmethod
        def ours(cls, clients: Any) -> Any:
            return [cls(name, {}, there) for name in there]

    apply([Labelled("one", {}, there), Labelled("two", {}, there)], CLIENTS)
    rows = [Labelled("two", {}, there)]
    assert [(change.address, change.action) for change in plan(rows, CLIENTS)] == [
        ("thing/two", "unchanged"),
        ("thing/one", "delete"),
    ]
    apply(rows, CLIENTS)
    assert set(there) == {"two"}


def test_a_plan_is_applied_as_it_was_read_or_not_at_all() -> None:
    """What was done by hand since then stops it, with the name and the field; what it did itself does not."""
    there: dict[str, Any] = {}
    rows = [Thing("one", {"size": 1, "url": "known"}, there), Thing("two", {"size": 2}, there)]
    planned = plan(rows, CLIENTS)
    apply(rows[:1], CLIENTS)  # as a run that was cut short
    check(planned, plan(rows, CLIENTS))
    apply(rows, CLIENTS, planned=planned)
    there["one"]["size"] = 5
    planned = plan(rows, CLIENTS)
    there["one"]["size"] = 6
    with pytest.raises(OutdatedError, match="thing/one: size: was changed since"):
        check(planned, plan(rows, CLIENTS))
    with pytest.raises(OutdatedError, match="thing/one: size"):
        apply(rows, CLIENTS, planned=planned)
    assert there["one"]["size"] == 6
    there["one"]["size"] = 1
    there["two"]["size"] = 0
    with pytest.raises(OutdatedError, match="thing/two was not in it"):
        apply(rows, CLIENTS, planned=[])


def test_a_value_that_was_not_known_yet_may_be_anything() -> None:
    """A plan says so, and the value that turns up is in order."""
    there = {"one": {"url": "old"}}
    planned = plan([Thing("one", {"url": UNKNOWN}, there)], CLIENTS)
    check(planned, plan([Thing("one", {"url": "https://known"}, there)], CLIENTS))


def test_data_is_only_deleted_by_name() -> None:
    """Named data goes with the rest; a name that is none is refused before anything is deleted."""
    there: dict[str, Any] = {}
    rows = [Thing("data", {}, there, keeps_data=True), Thing("one", {}, there)]
    apply(rows, CLIENTS)
    with pytest.raises(ApplyError, match="thing/dta: no such data; there are: thing/data"):
        destroy(rows, CLIENTS, named=["thing/dta"])
    assert set(there) == {"data", "one"}
    destroy(rows, CLIENTS, named=["thing/data"])
    assert there == {}


def test_destroy_also_takes_what_is_no_longer_declared() -> None:
    """A row that left the table since the last deployment does not go on running, and costing."""
    there: dict[str, Any] = {}

    class Labelled(Thing):
        @classmethod
        def ours(cls, clients: Any) -> Any:
            return [cls(name, {}, there) for name in there]

    apply([Labelled("one", {}, there), Labelled("two", {}, there)], CLIENTS)
    done = destroy([Labelled("two", {}, there)], CLIENTS)
    assert [change.address for change in done] == ["thing/one", "thing/two"]
    assert there == {}


def test_a_deployment_that_broke_off_early_can_be_taken_down() -> None:
    """Where an API was never switched on there is nothing of it, and what was made before goes."""
    there: dict[str, Any] = {}

    class Off(Thing):
        def read(self, clients: Any) -> dict[str, Any] | None:
            raise Forbidden("Cloud X API has not been used in project 1 before or it is disabled.")

    rows = [Thing("one", {}, there), Off("two", {}, there)]
    apply(rows[:1], CLIENTS)
    assert [change.address for change in destroy(rows, CLIENTS)] == ["thing/one"]
    assert there == {}
