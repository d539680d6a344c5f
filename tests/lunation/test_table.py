"""The table of resources: every row says whose it is, who may manage it, what it costs and what it is for."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

from lunation.clients import Clients
from lunation.deploy import costs, staging, watch
from lunation.deploy.access import Access
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.images import Image
from lunation.deploy.plan import Change, plan
from lunation.deploy.resource import Resource
from lunation.deploy.table import APIS, SCHEDULER_JOB, WORKFLOW, resources, template_image
from lunation.deploy.units import UNITS
from lunation.deploy.workflows import Workflow
from lunation.settings import Schedule, Settings, load
from rehearsal.offline import empty_project
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
        patch.setattr(staging, "BUILD", tmp_path_factory.mktemp("table"))
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


def test_the_guide_gives_whoever_deploys_every_role_that_a_row_is_managed_with(planned: Planned) -> None:
    """The loop that grants them, word for word; and with it the right to let things run as the units' accounts."""
    (loop,) = re.findall(r"for role in (.*?); do", GUIDE, flags=re.S)
    granted = {f"roles/{role}" for role in loop.replace("\\", " ").split()}
    assert {row.managed_with for row in planned.rows} | {"roles/iam.serviceAccountUser"} == granted


def test_every_grant_says_why_and_ends_at_the_smallest_resource(planned: Planned) -> None:
    """On the project only what nothing smaller takes: a unit's own role."""
    for row in planned.rows:
        if isinstance(row, Access):
            assert all(grant.why for grant in row.grants), row.address
            if row.name == "project":
                assert all("/roles/lunation" in grant.role for grant in row.grants)
                assert not [one for one in row.grants if "storage." in one.role or "pubsub." in one.role]


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
    for text in (watch.POINTER_NOT_FOLLOWED, watch.MODEL_NOT_SERVED):
        assert f'"{text}"' in source


def test_the_alerts_of_the_rhythm_watch_what_is_deployed() -> None:
    """The workflow and the job by the names that the table gives them."""
    assert f'workflow_id = "{WORKFLOW}"' in watch.WORKFLOW
    assert f'job_id = "{SCHEDULER_JOB}"' in watch.SCHEDULER


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
