"""The states in which a thing is there and does not do its work: a plan has to see each of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lunation.clients import Clients
from lunation.deploy.plan import compare
from lunation.deploy.resource import Resource
from rehearsal.normal_forms import (
    DATAFLOW_JOB,
    DESCRIBED,
    FIELD,
    FUNCTION,
    INDEX,
    SCHEDULER_JOB,
    SUBSCRIPTION,
    WORKFLOW,
)
from rehearsal.project import Project

if TYPE_CHECKING:
    from rehearsal.rewrites import Rewrites


@dataclass(frozen=True)
class Bad:
    """A state in which a thing is there and does not do its work.

    Args:
        row: the kind of the row, as its address has it.
        kind: the message's full name.
        state: the value, by its name.
        field: where the message has it.
        source: what says so.
    """

    row: str
    kind: str
    state: str
    source: str
    field: str = "state"


_REFERENCE = "https://cloud.google.com"
_INDEXES = f"{_REFERENCE}/datastore/docs/reference/admin/rest/v1/projects.indexes#State"
_FIELDS = f"{_REFERENCE}/firestore/docs/reference/rest/v1/projects.databases.collectionGroups.fields#State"
_JOBS = f"{_REFERENCE}/scheduler/docs/reference/rest/v1/projects.locations.jobs#State"
BAD = (
    Bad("function", FUNCTION, "FAILED", DESCRIBED),
    Bad(
        "subscription",
        SUBSCRIPTION,
        "RESOURCE_ERROR",
        f"{_REFERENCE}/pubsub/docs/reference/rest/v1/projects.subscriptions#State",
    ),
    Bad("index", INDEX, "CREATING", _INDEXES),
    Bad("index", INDEX, "ERROR", _INDEXES),  # Firestore's own API has NEEDS_REPAIR
    Bad("ttl", FIELD, "NEEDS_REPAIR", _FIELDS, "ttl_config.state"),
    Bad(
        "workflow",
        WORKFLOW,
        "UNAVAILABLE",
        f"{_REFERENCE}/workflows/docs/reference/rest/v1/projects.locations.workflows#State",
    ),
    Bad("scheduler-job", SCHEDULER_JOB, "PAUSED", _JOBS),
    Bad("scheduler-job", SCHEDULER_JOB, "UPDATE_FAILED", _JOBS),
    Bad(
        "dataflow-job",
        DATAFLOW_JOB,
        "JOB_STATE_FAILED",
        f"{_REFERENCE}/dataflow/docs/reference/rest/v1b3/projects.jobs#jobstate",
        "current_state",
    ),
)
"""A plan sees each of them."""


def unseen(rows: Iterable[Resource], clients: Clients, rewrites: "Rewrites", project: Project) -> list[str]:
    """The bad states that a plan of ``rows`` does not see, one row of each kind in each of them; a line each."""
    rows = list(rows)
    found = []
    for bad in BAD:
        row = next((row for row in rows if row.kind == bad.row and _may_be(row, bad, clients)), None)
        if row is None:
            continue
        name = _called(row, clients, project)
        well = compare(row, clients)
        rewrites.breaks(name, bad.state)
        broken = compare(row, clients)
        rewrites.breaks(name, "")
        if broken == well:
            found.append(f"{row.address} in state {bad.state} counts as unchanged")
    return found


def _may_be(row: Resource, bad: Bad, clients: Clients) -> bool:
    """Only what pushes somewhere can fail to."""
    return bad.state != "RESOURCE_ERROR" or "push_config" in row.desired(clients)


def _called(row: Any, clients: Clients, project: Project) -> str:
    """What :meth:`Rewrites.breaks` calls the thing of a row."""
    match row.kind:
        case "function" | "workflow" | "scheduler-job":
            return str(row.path(clients))
        case "subscription":
            return f"projects/{project.project}/subscriptions/{row.name}"
        case "ttl":
            kind, _, name = row.name.partition(".")
            return f"projects/{project.project}/databases/(default)/collectionGroups/{kind}/fields/{name}"
        case "index":
            kind, _, rest = row.name.partition("(")
            wanted = [one.removeprefix("-") for one in rest.removesuffix(")").split(", ")]
            for index in clients.datastore_admin.list_indexes(request={"project_id": project.project}):
                if index.kind == kind and [one.name for one in index.properties] == wanted:
                    return str(index.index_id)
    return str(row.name)
