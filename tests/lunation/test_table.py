"""The table of resources: every row says whose it is, who may manage it, what it costs and what it is for."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from laptop.errors import ServiceError
from lunation.clients import Clients
from lunation.deploy import artefacts, costs, deployer
from lunation.deploy.access import Access
from lunation.deploy.accounts import CustomRole
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.empty_project import empty_project
from lunation.deploy.images import Image
from lunation.deploy.names import SCHEDULER_JOB, WORKFLOW, template_image
from lunation.deploy.plan import Change, apply, plan
from lunation.deploy.resource import Resource
from lunation.deploy.stack import UNITS, alerts, dashboard
from lunation.deploy.stack.project import APIS
from lunation.deploy.table import resources
from lunation.deploy.workflows import Workflow
from lunation.settings import Schedule, Settings, load
from rehearsal.judge import Judge
from rehearsal.predefined import ROLES
from rehearsal.recorder import Call
from tests.lunation.rehearsed import rehearsed
from tests.support import ROOT

GUIDE = (ROOT / "docs" / "deploy.md").read_text()


class Planned:
    """The table of the sample target, against an empty project."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.settings = settings
        self.clients = clients
        self.rows = resources(settings, clients.target)
        self.changes: list[Change] = plan(self.rows, clients)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """Planned once."""
    settings = load(monitoring={"email": "team@example.com"})
    with pytest.MonkeyPatch.context() as patch, empty_project(settings.target("production")) as target:
        patch.setattr(artefacts, "BUILD", tmp_path_factory.mktemp("table"))
        for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.setenv(variable, "")
        yield Planned(settings, Clients(target))


def lacking(rows: list[Resource], has: object) -> list[str]:
    """The addresses of the rows for which ``has`` is false."""
    return [row.address for row in rows if not has(row)]  # type: ignore[operator]


def test_every_row_has_an_owner(planned: Planned) -> None:
    """A unit, or the project."""
    assert lacking(planned.rows, lambda row: row.owner in {*UNITS, "project"}) == []


def test_every_row_names_the_role_that_manages_it_and_its_api(planned: Planned) -> None:
    """So that an error can say what is missing; and the API is one that the deployment switches on."""
    assert lacking(planned.rows, lambda row: re.fullmatch(r"roles/[a-z]+\.[a-zA-Z.]+", row.managed_with)) == []
    on = {f"{name}.googleapis.com" for name in APIS} | {"serviceusage.googleapis.com"}
    assert lacking(planned.rows, lambda row: row.api in on) == []


def test_every_row_has_a_price(planned: Planned) -> None:
    """Free is a price, too; each price has a page that says so."""
    assert lacking(planned.rows, lambda row: row.kind in costs.ESTIMATES) == []
    found = costs.estimate(planned.rows, planned.settings)
    assert sum(cost.usd for cost in found) > 100
    assert all(cost.why for cost in found)
    assert all(price.source.startswith("https://cloud.google.com/") for price in costs.PRICES.values())
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", costs.DATE)


def test_more_records_cost_more(planned: Planned) -> None:
    """The estimate follows the volumes of lunation.toml."""
    tenfold = planned.settings.volumes.model_copy(update={"records_per_day": 10_000_000})
    more = planned.settings.model_copy(update={"volumes": tenfold})
    total = {
        settings.volumes.records_per_day: sum(cost.usd for cost in costs.estimate(planned.rows, settings))
        for settings in (planned.settings, more)
    }
    assert total[10_000_000] > 3 * total[1_000_000]


def test_what_is_paid_for_beside_the_table_is_estimated(planned: Planned) -> None:
    """The way out of the cluster's machines is no row; who deploys no cluster does not pay for it."""
    without = [row for row in planned.rows if row.kind != "workflow-template"]
    named = [{cost.address for cost in costs.estimate(rows, planned.settings)} for rows in (planned.rows, without)]
    assert ["Cloud NAT" in addresses for addresses in named] == [True, False]


@pytest.mark.parametrize(
    ("address", "price"),
    [
        ("database/(default)", "datastore-recovery"),
        ("function/ingest-fast", "logging"),
        ("dataflow-job/lunation-archive", "dataflow-disk"),
        ("workflow-template/lunation-train", "pd-balanced"),
        ("Cloud NAT", "nat-address"),
    ],
)
def test_every_part_of_a_price_counts(
    planned: Planned, monkeypatch: pytest.MonkeyPatch, address: str, price: str
) -> None:
    """Ten times the price of one part makes the row dearer."""

    def now() -> float:
        found = {cost.address: cost.usd for cost in costs.estimate(planned.rows, planned.settings)}
        return found[address]

    before = now()
    dearer = replace(costs.PRICES[price], usd=10 * costs.PRICES[price].usd)
    monkeypatch.setitem(costs.PRICES, price, dearer)
    assert now() > before


def test_every_price_is_used() -> None:
    """A price that nothing reads would look like something that is counted."""
    source = (ROOT / "lunation" / "deploy" / "costs.py").read_text()
    assert [name for name in costs.PRICES if f'PRICES["{name}"]' not in source] == []


def test_more_trainings_cost_more(planned: Planned) -> None:
    """The estimate follows the rhythm: four times as many cycles, four times the cluster."""
    weekly = planned.settings.model_copy(update={"schedule": Schedule(cycle_weeks=1)})

    def cluster(settings: Settings) -> float:
        (found,) = [
            one for one in costs.estimate(planned.rows, settings) if one.address.startswith("workflow-template/")
        ]
        return found.usd

    assert cluster(weekly) == pytest.approx(4 * cluster(planned.settings))


def test_every_row_is_told_in_the_plan(planned: Planned) -> None:
    """By its address, which no other has, and what it will be."""
    assert lacking(planned.rows, lambda row: row.summary(planned.clients)) == []
    addresses = [change.address for change in planned.changes]
    assert addresses == [row.address for row in planned.rows]
    assert len(set(addresses)) == len(addresses)
    assert {change.action for change in planned.changes} == {"create"}


def test_every_row_and_unit_is_in_the_guide(planned: Planned) -> None:
    """docs/deploy.md has a line for each kind, and for each unit with what its role gives."""
    for row in planned.rows:
        assert f"| `{row.kind}` | {row.about} |" in GUIDE, row.kind
    for unit in UNITS.values():
        assert f"| `{unit.name}` | {unit.purpose} |" in GUIDE, unit.name


def test_the_guide_gives_whoever_deploys_every_role_that_a_row_takes_and_no_other(planned: Planned) -> None:
    """The loop that grants them, word for word."""
    (loop,) = re.findall(r"for role in (.*?); do", GUIDE, flags=re.S)
    granted = {f"roles/{role}" for role in loop.replace("\\", " ").split()}
    assert granted == deployer.roles(planned.rows)


class Documented(Judge):
    """Lets whoever deploys make an alert on the log only with a role that holds the permission, of those in the guide.

    https://cloud.google.com/iam/docs/roles-permissions/logging
    """

    def before(self, call: Call) -> None:
        """Refuse it, as Monitoring does."""
        if not call.method.endswith("CreateAlertPolicy"):
            return
        policy: Any = call.request.alert_policy  # type: ignore[union-attr]
        looks_at_the_log = any(condition.HasField("condition_matched_log") for condition in policy.conditions)
        if looks_at_the_log and not re.search(r"\blogging\.(configWriter|admin)\b", GUIDE):
            raise ServiceError("PERMISSION_DENIED", "Permission 'logging.notificationRules.create' denied on project")


def test_whoever_deploys_by_the_guide_may_make_every_alert(tmp_path: Path) -> None:
    """One that looks at the log is a rule of Cloud Logging, too, which no role of Monitoring gives."""
    with rehearsed(tmp_path, Documented()) as (stage, clients):
        stage.project.lacks = {"logging.notificationRules.create"}
        rows = [*alerts.alerts(load().monitoring), *dashboard.dashboard()]
        assert {change.action for change in apply(rows, clients)} == {"create"}


def test_every_grant_says_why_and_ends_at_the_smallest_resource(planned: Planned) -> None:
    """On the project only what nothing smaller takes: a unit's own role, and the predefined ones that it names."""
    predefined = {role for unit in UNITS.values() for role, _ in unit.roles}
    for row in planned.rows:
        if isinstance(row, Access):
            assert all(grant.why for grant in row.grants), row.address
            if row.name == "project":
                roles = [grant.role for grant in row.grants]
                assert all(role in predefined or isinstance(role, CustomRole) for role in roles)
                assert not [role for role in predefined if "storage." in role or "pubsub." in role]


def test_what_a_unit_may_do_is_granted_where_its_module_says(planned: Planned) -> None:
    """Each permit, on the access row of its resource: one that names no such row would be granted nowhere."""
    project, target = planned.clients.project, planned.clients.target
    access = {row.name: row for row in planned.rows if isinstance(row, Access)}
    stated = 0
    for unit in UNITS.values():
        member = f"serviceAccount:lunation-{unit.name}@{project}.iam.gserviceaccount.com"
        for address, permit in unit.permits(target).items():
            assert address in access, f"{unit.name}: no row grants anything on {address}"
            granted = [
                (grant.role.name if isinstance(grant.role, CustomRole) else grant.role, grant.why, grant.condition)
                for grant in access[address].grants
                if grant.member == member
            ]
            assert (permit.role, permit.why, permit.condition) in granted, address
            stated += 1
    assert stated > 20


def test_the_policy_of_the_project_knows_every_unit(planned: Planned) -> None:
    """Also those that it grants nothing: whatever their accounts have there by hand is too much."""
    (access,) = [row for row in planned.rows if row.address == "access/project"]
    assert isinstance(access, Access)
    assert access.policy.units == tuple(UNITS)


LAUNCHES = ("image", "function", "dataflow-job", "workflow", "scheduler-job")
"""The kinds that run something as somebody as soon as they are there."""


def test_grants_come_early_and_launches_late(planned: Planned) -> None:
    """A bucket's or a repository's access directly after it; every other grant before the first thing that runs as
    somebody, but for who may call a function, which has to be there first."""
    addresses = [row.address for row in planned.rows]
    first = next(index for index, row in enumerate(planned.rows) if row.kind in LAUNCHES)
    for index, row in enumerate(planned.rows):
        if not isinstance(row, Access):
            continue
        if row.name.startswith(("bucket/", "repository/", "function/")):
            assert addresses[index - 1] == row.within, row.address
        elif row.name != "project":
            assert row.within in addresses[:index], row.address
        assert index < first or row.name.startswith("function/"), row.address


def needed(row: Resource) -> list[tuple[str, str, str]]:
    """``(unit, permission, row)``: what must be granted when ``row`` is made, for it to be made at all.

    https://cloud.google.com/build/docs/cloud-build-service-account, https://cloud.google.com/functions/docs/securing/build-custom-sa
    and https://cloud.google.com/dataflow/docs/concepts/security-and-permissions say it of builds and jobs.
    """
    bucket, repository = "bucket/example-production-build", "repository/lunation"
    read, push = ("storage.objects.get", "storage.objects.list"), "artifactregistry.repositories.uploadArtifacts"
    match row.kind:
        case "image":
            return [*(("build", one, bucket) for one in read), ("build", push, repository),
                    ("build", "logging.logEntries.create", "project")]  # fmt: skip
        case "function":
            return [*(("build", one, "project") for one in read), ("build", push, repository),
                    ("build", "logging.logEntries.create", "project")]  # fmt: skip
        case "dataflow-job":
            subscriptions = [
                f"subscription/{one}-archive" for one in ("records", "labels", "dead-letters", "comparisons")
            ]
            return [
                ("archive", "artifactregistry.repositories.downloadArtifacts", repository),
                ("archive", "dataflow.workItems.lease", "project"),
                *(("archive", f"storage.objects.{verb}", bucket) for verb in ("get", "list", "create")),
                ("archive", "storage.objects.create", "bucket/example-production-archive"),
                *(("archive", "pubsub.subscriptions.consume", one) for one in subscriptions),
                ("archive", "pubsub.topics.publish", "topic/dead-letters"),
            ]
        case "scheduler-job":
            return [("scheduler", "workflows.executions.create", "project")]
        case "subscription" if row.name in ("records-ingest-fast", "records-classify"):
            return [("push", "run.routes.invoke", f"function/{row.name.removeprefix('records-')}")]
    return []


def test_what_a_row_needs_to_be_allowed_comes_before_it(planned: Planned) -> None:
    """Followed through the table, grant by grant; and no account, role or agent is named before its own row."""
    project, clients = planned.clients.project, planned.clients
    granted: set[tuple[str, str, str]] = set()
    there: list[str] = []
    asked = 0
    for row in planned.rows:
        lacking = set(needed(row)) - granted
        assert not lacking, f"{row.address} before {lacking}"
        asked += len(needed(row))
        if isinstance(row, Access):
            for grant in row.grants:
                role, member = grant.role, grant.member if isinstance(grant.member, str) else grant.member(clients)
                unit = member.removeprefix("serviceAccount:lunation-").removesuffix(
                    f"@{project}.iam.gserviceaccount.com"
                )
                if isinstance(role, CustomRole):
                    assert role.address in there, row.address
                if unit in UNITS:
                    assert f"service-account/lunation-{unit}" in there, row.address
                else:
                    assert "gcp-sa-pubsub" in member
                    assert "service-agents/google" in there, row.address
                permissions = role.permissions if isinstance(role, CustomRole) else ROLES.get(role, ())
                granted |= {(unit, permission, row.name) for permission in permissions}
        there.append(row.address)
    assert asked > 20


def test_no_custom_role_holds_what_google_may_rename(planned: Planned) -> None:
    """Whoever exports metrics has the predefined role, whatever that is made of."""
    for row in planned.rows:
        if isinstance(row, CustomRole):
            assert not [one for one in row.permissions if one.startswith("telemetry.")], row.address
    (access,) = [row for row in planned.rows if row.address == "access/project"]
    writers = access.desired(planned.clients)["roles/telemetry.metricsWriter"]
    assert {one.partition("@")[0].removeprefix("serviceAccount:lunation-") for one in writers} == {
        "classify", "classify-http", "ingest-fast", "submit", "train",
    }  # fmt: skip


def test_pubsub_takes_nothing_out_of_a_subscription(planned: Planned) -> None:
    """A push is tried again for the seven days that its message is kept, at most ten minutes after the last one."""
    rows = [row for row in planned.rows if row.kind == "subscription"]
    assert len(rows) == 8
    for row in rows:
        wanted = row.desired(planned.clients)
        assert wanted["dead_letter_policy"] == {}
        assert wanted["message_retention_duration"] == "604800s"
        if wanted["push_config"]["push_endpoint"]:
            assert wanted["retry_policy"] == {"minimum_backoff": "1s", "maximum_backoff": "600s"}


def test_nobody_is_everybody(planned: Planned) -> None:
    """No grant to the public, no basic role, no key."""
    for row in planned.rows:
        if isinstance(row, Access):
            for role, members in row.desired(planned.clients).items():
                assert not {"allUsers", "allAuthenticatedUsers"} & set(members), row.address
                assert role not in {"roles/owner", "roles/editor", "roles/viewer"}, row.address


def test_what_an_alert_waits_for_in_a_log_is_what_is_logged() -> None:
    """A text that changes in the function changes the alert."""
    source = (ROOT / "functions" / "classify" / "serving.py").read_text()
    for text in (alerts.POINTER_NOT_FOLLOWED, alerts.MODEL_NOT_SERVED):
        assert f'"{text}"' in source


def test_the_alerts_of_the_rhythm_watch_what_is_deployed() -> None:
    """The workflow and the job by the names that the table gives them."""
    assert f'workflow_id = "{WORKFLOW}"' in alerts.WORKFLOW
    assert f'job_id = "{SCHEDULER_JOB}"' in alerts.SCHEDULER


def test_the_workflow_gets_the_rhythm_of_the_settings(planned: Planned) -> None:
    """The weeks of a cycle, and the week that periods are counted from: of a date, where one is given."""
    schedule = Schedule(cycle_weeks=2, first_cycle=date(2026, 12, 2))
    settings = planned.settings.model_copy(update={"schedule": schedule})
    rows = resources(settings, planned.clients.target)
    found = [
        row.desired(planned.clients)["user_env_vars"] for row in (*planned.rows, *rows) if isinstance(row, Workflow)
    ]
    assert [one["CYCLE_WEEKS"] for one in found] == ["4", "2"]
    assert found[1]["FIRST_CYCLE_WEEK"] == str((date(2026, 12, 2) - date(1970, 1, 1)).days // 7)


def test_a_sample_is_planned_as_it_would_be_at_googles(planned: Planned) -> None:
    """What is deployed carries Google's addresses, not those of this machine."""
    kinds = ("function", "workflow", "workflow-template")
    text = str([row.desired(planned.clients) for row in planned.rows if row.kind in kinds])
    assert "https://datastore.googleapis.com" in text
    metrics = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT': 'https://telemetry.googleapis.com/v1/metrics'"
    assert text.count(metrics) == len([row for row in planned.rows if row.kind == "function"]) + 1, (
        "the Spark jobs', too"
    )
    assert "127.0.0.1" not in text


def test_a_sample_can_only_be_looked_at(planned: Planned) -> None:
    """Nothing is created in an empty project: it can only be looked at."""
    with pytest.raises(Exception, match="this is a plan, nothing is made"):
        planned.rows[[row.kind for row in planned.rows].index("topic")].create(planned.clients)


def test_the_workers_run_the_image_that_is_built(planned: Planned) -> None:
    """The template's own: a worker of Beam's plain image would miss our packages. It is the spec's image, too."""
    (built,) = [row for row in planned.rows if isinstance(row, Image)]
    (job,) = [row for row in planned.rows if isinstance(row, StreamingJob)]
    assert job.image == built.uri(planned.clients.target)
    source = built.name.partition(":")[2]
    assert template_image(planned.clients.target, source) == job.image
