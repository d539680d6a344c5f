"""Least privilege: what each unit was seen to need, against what it is given, in both directions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lunation.clients import Clients
from lunation.deploy.access import Access
from lunation.deploy.accounts import CustomRole, account
from lunation.deploy.resource import Resource
from lunation.deploy.units import UNITS
from rehearsal.predefined import ROLES
from rehearsal.recorder import Call


@dataclass(frozen=True, order=True)
class Need:
    """A permission on a resource.

    Args:
        unit: whose.
        permission: for example ``pubsub.topics.publish``.
        resource: the address of the row it is granted on, or ``project``.
    """

    unit: str
    permission: str
    resource: str

    def __str__(self) -> str:
        return f"{self.unit}: {self.permission} on {self.resource}"


def documented(archive: str, models: str, build: str) -> set[Need]:
    """What Google's own programs need on a unit's behalf, which no recording on this machine can show.

    https://cloud.google.com/dataflow/docs/concepts/security-and-permissions and
    https://cloud.google.com/dataproc/docs/concepts/configuring-clusters/service-accounts say what an agent does.
    """
    files = ("storage.buckets.get", "storage.objects.create", "storage.objects.delete", "storage.objects.get",
             "storage.objects.list")  # fmt: skip
    rows = [
        # The Cloud Storage connector lists, reads and renames, and falls back to looking at the bucket
        # (https://github.com/GoogleCloudDataproc/hadoop-connectors/issues/135). No Spark reads or writes the models:
        # spark/objects.py does, by Google's client for single objects, and is recorded.
        *(("train", permission, f"bucket/{archive}") for permission in files),
        *(("train", f"storage.objects.{verb}", f"bucket/{models}") for verb in ("create", "get", "list")),
        *(("train", permission, f"bucket/{build}") for permission in files),
        *(("archive", permission, f"bucket/{build}") for permission in files),
        # Dataflow's service looks at a subscription before it reads.
        *(
            ("archive", "pubsub.subscriptions.get", f"subscription/{topic}-archive")
            for topic in ("records", "labels", "dead-letters", "comparisons")
        ),
        ("archive", "artifactregistry.repositories.downloadArtifacts", "repository/lunation"),
        ("build", "artifactregistry.repositories.uploadArtifacts", "repository/lunation"),
        ("build", "artifactregistry.repositories.downloadArtifacts", "repository/lunation"),
        *(("build", f"storage.objects.{verb}", f"bucket/{build}") for verb in ("get", "list")),
        *(("build", f"storage.objects.{verb}", "project") for verb in ("get", "list")),
        *((unit.name, permission, "project") for unit in UNITS.values() for permission in unit.platform),
    ]
    return {Need(*row) for row in rows}


def given(rows: Iterable[Resource], clients: Clients) -> set[Need]:
    """What the policies that are in force give to the units' accounts.

    Raises:
        KeyError: a predefined role that :mod:`rehearsal.predefined` does not know.
    """
    rows = list(rows)
    custom = {row.path(clients): row for row in rows if isinstance(row, CustomRole)}
    members = {f"serviceAccount:{account(clients.project, unit)}": unit for unit in UNITS}
    found = set()
    for row in rows:
        if not isinstance(row, Access):
            continue
        for key, holders in (row.read(clients) or {}).items():
            role = key.partition(" [")[0]
            if role in custom:
                state = custom[role].read(clients) or {}
                permissions = tuple(state.get("included_permissions", ()))
            else:
                permissions = ()
            for member in holders:
                if member in members:
                    for permission in permissions or ROLES[role]:
                        found.add(Need(members[member], permission, row.name))
    return found


def needed(calls: Iterable[Call]) -> set[Need]:
    """What the recorded calls need.

    Raises:
        KeyError: a method that this module does not know: say here what it needs.
    """
    return {need for call in calls for need in _needs(call)}


def _needs(call: Call) -> Iterator[Need]:
    for permission, resource in _permissions(call.method, call.request):
        yield Need(call.caller, permission, resource)


def _permissions(method: str, request: Any) -> Iterator[tuple[str, str]]:
    match method.rsplit(".", 2)[-2:]:
        case ["Datastore", "Lookup"]:
            yield "datastore.entities.get", "project"
        case ["Datastore", "Commit"]:
            for mutation in request.mutations:
                yield from _mutation(mutation)
        case ["Publisher", "Publish"]:
            yield "pubsub.topics.publish", f"topic/{_last(request.topic)}"
        case ["Subscriber", "Pull" | "Acknowledge" | "ModifyAckDeadline"]:
            yield "pubsub.subscriptions.consume", f"subscription/{_last(request.subscription)}"
        case ["WorkflowTemplateService", "InstantiateWorkflowTemplate"]:
            yield "dataproc.workflowTemplates.instantiate", "project"
            yield "iam.serviceAccounts.actAs", "service-account/lunation-train"
        case ["Operations", "GetOperation"]:
            yield "dataproc.operations.get", "project"
        case ["Executions", "CreateExecution"]:
            yield "workflows.executions.create", "project"
        case ["Executions", "GetExecution"]:
            yield "workflows.executions.get", "project"
        case ["functions", "invoke"]:
            yield "run.routes.invoke", f"function/{request}"
        case ["metrics", "write"]:
            yield "monitoring.timeSeries.create", "project"
        case ["buckets", "get"]:
            # Google's client looks a bucket up in the background, for its traces; refused, it does without
            # (google/cloud/storage/_bucket_metadata_cache.py).
            return
        case ["objects", verb]:
            permission = {"insert": "create", "get": "get", "list": "list", "delete": "delete"}[verb]
            yield f"storage.objects.{permission}", f"bucket/{_bucket(request)}"
        case _:
            raise KeyError(f"{method}: rehearsal/privileges.py does not say which permission it needs")


def _mutation(mutation: Any) -> Iterator[tuple[str, str]]:
    # https://cloud.google.com/datastore/docs/access/iam#required_permissions
    verbs = {"insert": ("create",), "update": ("update",), "upsert": ("create", "update"), "delete": ("delete",)}
    for verb in verbs[mutation.WhichOneof("operation")]:
        yield f"datastore.entities.{verb}", "project"


def _bucket(path: Any) -> str:
    return str(path).partition("/b/")[2].partition("/")[0].partition("?")[0]


def _last(name: str) -> str:
    return name.rsplit("/", 1)[1]
