"""What happens by itself after days: what a rule has deleted, what can no longer be had back, what is full.

Both functions answer what they found, a line each; nothing, if a deployment lives through all of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lunation.clients import Clients
from lunation.deploy.plan import ApplyError, apply, destroy, plan
from lunation.deploy.resource import Resource
from rehearsal.project import DAY, Project
from rehearsal.recorder import Call
from schemas.archive_objects import object_name
from schemas.storage_uri import StorageUri

DAYS_AWAY = (1, 10, 40)
"""Within, after, and long after the time in which a deleted role can be had back, and beyond the one in which its id is
taken (:mod:`rehearsal.project`)."""
JOB_DAYS = 30
KEPT_DAYS = 3650
IN_MEMORY = {"serviceusage", "iam", "resourcemanager", "artifactregistry", "pubsub-schemas", "monitoring", "firestore"}
"""The services of which the project itself keeps what there is: making all of it anew takes a second."""
RELEASES = 25
"""More than a schema may have revisions."""


def of_a_running_job(rows: Sequence[Resource], clients: Clients, calls: Iterable[Call]) -> list[str]:
    """What the buckets' rules delete that a job of 30 days, or somebody after ten years, still needs.

    A worker that is replaced or added fetches what its job staged, however old that is:
    https://github.com/apache/beam/issues/18123, https://github.com/apache/beam/issues/18209.

    Args:
        rows: the table; its files and data are looked at.
        calls: of the deployment; the launch of the job tells where it stages.
    """
    found = []
    for job, location in sorted(_staged(calls).items()):
        staging = StorageUri.parse(location)
        uri = StorageUri(staging.bucket, f"{staging.path.rstrip('/')}/{job}/pipeline.pb")
        day = _gone_on(_rules(clients, uri.bucket), uri.path, JOB_DAYS)
        if day is not None:
            found.append(
                f"job {job}: {uri} is deleted on day {day} by a rule of its bucket; a worker that "
                "starts later cannot fetch it"
            )
    for row in rows:
        for name in _lasting(row):
            bucket = row.name if row.kind == "bucket" else row.within.partition("/")[2]
            day = _gone_on(_rules(clients, bucket), name, KEPT_DAYS)
            if day is not None:
                found.append(
                    f"gs://{bucket}/{name} is deleted on day {day} by a rule of its bucket, and is kept for good"
                )
    return found


def deletes(rule: Mapping[str, Any], name: str, days: int) -> bool:
    """Whether a lifecycle rule deletes an object of that name and age that is live.

    https://cloud.google.com/storage/docs/lifecycle#conditions: all conditions of a rule hold at once.
    """
    condition = rule.get("condition", {})
    if rule.get("action", {}).get("type") != "Delete" or condition.get("isLive") is False:
        return False
    if any(one in condition for one in ("daysSinceNoncurrentTime", "numNewerVersions", "noncurrentTimeBefore")):
        return False  # of versions that are not live
    prefixes, suffixes = condition.get("matchesPrefix"), condition.get("matchesSuffix")
    return (
        days >= condition.get("age", 0)
        and (not prefixes or name.startswith(tuple(prefixes)))
        and (not suffixes or name.endswith(tuple(suffixes)))
    )


def of_a_destroyed_project(rows: Sequence[Resource], clients: Clients, project: Project) -> list[str]:
    """What a deployment stumbles on that finds a project in which an earlier one was, some time ago.

    Args:
        rows: the table. Those of the services that the project keeps in memory are made and destroyed.
        project: its clock is moved by months.
    """
    rows = [row for row in rows if row.service in IN_MEMORY]
    years = _Years(rows, clients, project)
    found = []
    for days in DAYS_AWAY:
        found += years.away(days)
    return [*found, *years.schemas_change(), *years.database_made_again(), *years.account_deleted_by_hand()]


class _Years:
    def __init__(self, rows: list[Resource], clients: Clients, project: Project) -> None:
        self._rows = rows
        self._clients = clients
        self._clock = project.clock

    def away(self, days: int) -> list[str]:
        self._make(self._rows, "")
        destroy(self._rows, self._clients)
        self._clock.sleep(days * DAY)
        return self._make(self._rows, f"{days} days after it was destroyed")

    def account_deleted_by_hand(self) -> list[str]:
        """Its grants name somebody who is gone; the one who has its name next is somebody else."""
        accounts = [row for row in self._rows if row.kind == "service-account"]
        if not accounts:
            return []
        self._make(self._rows, "")
        accounts[0].delete(self._clients)
        self._clock.sleep(DAY)
        return self._make(self._rows, f"a day after {accounts[0].address} was deleted by hand")

    def schemas_change(self) -> list[str]:
        """A field that has another type than before; then, release by release, a field more."""
        schemas: list[Any] = [row for row in self._rows if row.kind == "schema"]
        if not schemas:
            return []
        first = schemas[0]
        definition = first.desired(self._clients)["definition"]
        changed = definition.replace("string record_id", "bytes record_id")
        found = self._make(_replaced(schemas, changed), f"when a field of {first.address} has another type")
        first.delete(self._clients)
        for release in range(1, RELEASES + 1):
            refused = self._make(_replaced(schemas, definition), f"with revision {release} of {first.address}")
            if refused:
                return [*found, *refused]
            definition = _with_field(definition, f"optional string later_{release} = {900 + release};")
        return found

    def database_made_again(self) -> list[str]:
        """Deleted with its data, and deployed at once."""
        rows = [row for row in self._rows if row.kind in ("api", "database", "ttl")]
        databases = [row.address for row in rows if row.kind == "database"]
        self._make(rows, "")
        destroy(rows, self._clients, named=databases)
        return self._make(rows, "at once after it was destroyed with its data")

    def _make(self, rows: Sequence[Resource], when: str) -> list[str]:
        try:
            apply(rows, self._clients, wait=self._clock.sleep)
        except ApplyError as error:
            return [f"{when}: {error}"]
        pending = [change.address for change in plan(rows, self._clients) if change.action != "unchanged"]
        return [f"{when}: still to do: {', '.join(pending)}"] if pending else []


def _staged(calls: Iterable[Call]) -> dict[str, str]:
    """Where each job that was launched stages what its workers fetch."""
    found = {}
    for call in calls:
        request: Any = call.request
        if call.method.endswith(".LaunchFlexTemplate"):
            wanted = request.launch_parameter
            environment = wanted.environment
            found[wanted.job_name] = environment.staging_location or environment.temp_location
    return {job: location for job, location in found.items() if location}


def _lasting(row: Resource) -> list[str]:
    """Objects of a row that nobody may delete."""
    if row.kind == "file":
        return [row.name]
    if row.kind == "bucket" and row.keeps_data:
        return [object_name("records", "2013-01-01", "1"), "models/2013-01-01/run/manifest.json"]
    return []


def _rules(clients: Clients, bucket: str) -> list[Mapping[str, Any]]:
    found = clients.storage.lookup_bucket(bucket)
    return [] if found is None else [dict(rule) for rule in found.lifecycle_rules]


def _gone_on(rules: Sequence[Mapping[str, Any]], name: str, within: int) -> int | None:
    """The first day on which a rule deletes an object, if that is not later than ``within``."""
    return next((day for day in range(within + 1) if any(deletes(rule, name, day) for rule in rules)), None)


def _with_field(definition: str, field: str) -> str:
    """With one more field in the outermost message."""
    head, brace, tail = definition.rpartition("}")
    return f"{head}  {field}\n{brace}{tail}"


def _replaced(schemas: list[Any], definition: str) -> list[Resource]:
    """All of them, the first one with another definition."""
    make: Callable[[str, str], Resource] = type(schemas[0])
    return [make(schemas[0].name, definition), *schemas[1:]]
