"""Settings are checked before anything is called, all mistakes at once."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lunation.deploy import artefacts
from lunation.deploy.dataproc import WorkflowTemplate
from lunation.deploy.functions import Function
from lunation.deploy.resource import Resource
from lunation.deploy.table import resources
from lunation.settings import TABLES, Settings, SettingsError, Target, load
from schemas import USE_CASES
from schemas.check_limits import CheckLimits
from tests.use_cases.parcels import PARCELS

GOOD = """
default_target = "laptop"
[targets.laptop]
project = "local-dev"
"""


def file(tmp_path: Path, text: str) -> Path:
    """A settings file with this text."""
    path = tmp_path / "lunation.toml"
    path.write_text(text)
    return path


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is staged goes into the test's own folder."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")


def row(settings: Settings, target: str, kind: type[Resource], name: str = "") -> Any:
    """The one row of that kind, and name, in a target's table."""
    (found,) = [
        row for row in resources(settings, settings.target(target)) if type(row) is kind and name in ("", row.name)
    ]
    return found


def test_the_settings_of_the_repository_are_valid() -> None:
    """lunation.toml, as it is cloned."""
    assert load().target().project == "local-dev"


@pytest.mark.parametrize("name", ["parcel_delays", "ParcelDelays", "p" * 27])
def test_a_use_case_that_no_resource_can_be_called_after_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the settings are read, with what a name may be, and before half of a deployment is made."""
    monkeypatch.setitem(USE_CASES, name, replace(PARCELS, name=name))
    with pytest.raises(SettingsError, match=rf"use_case: .*'{name}' is none: expected 1 to 26 of a-z 0-9 -"):
        load(file(tmp_path, f'use_case = "{name}"' + GOOD))
    monkeypatch.setenv("LUNATION_USE_CASE", name)
    with pytest.raises(SettingsError, match="expected 1 to 26 of a-z 0-9 -"):
        load(file(tmp_path, GOOD))


@pytest.mark.parametrize("project", ["goog-shop", "my-google-shop", "g00gle-shop"])
def test_a_project_that_no_bucket_can_be_called_after_is_refused(project: str, tmp_path: Path) -> None:
    """When the settings are read: its accounts and topics would be there before its first bucket is refused."""
    with pytest.raises(SettingsError, match=rf"targets\.laptop\.project: .*no bucket may be called {project}-archive"):
        load(file(tmp_path, GOOD.replace("local-dev", project)))


def test_a_use_case_that_fits_may_be_as_long_as_a_cluster_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: None
) -> None:
    """26 letters: what the template makes of them is what Dataproc takes."""
    name = "p" * 26
    monkeypatch.setitem(USE_CASES, name, replace(PARCELS, name=name))
    settings = load(file(tmp_path, f'use_case = "{name}"' + GOOD))
    template = row(settings, "laptop", WorkflowTemplate)
    wanted = template.desired(SimpleNamespace(project="local-dev", target=settings.target(), url=lambda _: ""))
    assert wanted["placement"]["managed_cluster"]["cluster_name"] == f"lunation-{name}"
    assert wanted["labels"]["use-case"] == name


def test_every_mistake_is_named_with_its_place(tmp_path: Path) -> None:
    """All of them at once, whether of a value's form or of what it names."""
    text = 'use_case = "ships"' + GOOD.replace('= "laptop"', '= "nowhere"')
    text += '[targets.other]\nproject = "local-dev"\n'
    text += '[schedule]\ncron = "often"\n[archive]\nwindow_seconds = 0\n[records]\nttl_dyas = 3\n'
    with pytest.raises(SettingsError) as caught:
        load(file(tmp_path, text))
    for place in (
        "schedule.cron",
        "archive.window_seconds",
        "records.ttl_dyas",
        "'ships' is none of flights",
        "no [targets.nowhere]",
        "local-dev is already the project of laptop",
    ):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("default_target = ", "cannot be read"),
        (GOOD + 'use_case = "ships"', "use_case"),
        ('default_target = "nowhere"', "nowhere"),
        (GOOD.replace("local-dev", "Local Dev!"), "targets.laptop.project"),
        (GOOD.replace("[targets", "nonsense = 1\n[targets"), "nonsense"),
    ],
)
def test_a_bad_file_is_refused_with_the_cause(tmp_path: Path, text: str, word: str) -> None:
    """Broken TOML, an unknown name, an impossible project id."""
    if text.endswith('"ships"'):
        text = 'use_case = "ships"\n' + GOOD
    with pytest.raises(SettingsError, match=word):
        load(file(tmp_path, text))


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LUNATION_ARCHIVE__WINDOW_SECONDS overrides one value."""
    monkeypatch.setenv("LUNATION_ARCHIVE__WINDOW_SECONDS", "5")
    assert load(file(tmp_path, GOOD)).archive.window_seconds == 5


def test_a_target_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """So that a typo explains itself."""
    with pytest.raises(SettingsError, match="laptop"):
        load(file(tmp_path, GOOD)).target("lpatop")


def test_servers_that_were_never_started_are_an_error_with_the_fix(tmp_path: Path) -> None:
    """The text says how to start them."""
    settings = load(file(tmp_path, GOOD + f'endpoints = "{tmp_path}/nowhere.json"\n'))
    with pytest.raises(SettingsError, match="nox -s up"):
        settings.target().addresses()


@pytest.mark.usefixtures("built")
def test_the_limits_of_the_data_checks_reach_the_jobs(tmp_path: Path) -> None:
    """[checks] comes to all three jobs as one argument; what is left out has its default, and a typo is refused."""
    settings = load(file(tmp_path, GOOD + "[checks]\nunseen = 0.3\n"))
    template = row(settings, "laptop", WorkflowTemplate)
    clients: Any = SimpleNamespace(url=lambda service: f"https://{service}.googleapis.com")
    for job in template.desired(clients)["jobs"]:
        arguments = job["pyspark_job"]["args"]
        limits = CheckLimits.model_validate_json(arguments[arguments.index("--checks") + 1])
        assert limits == CheckLimits(unseen=0.3)
    with pytest.raises(SettingsError, match=r"checks\.unsene"):
        load(file(tmp_path, GOOD + "[checks]\nunsene = 0.3\n"))


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(("weeks", "days"), [(1, "7"), (2, "14"), (4, "28"), (8, "28")])
def test_the_evaluation_window_is_the_cycle_and_at_most_four_weeks(tmp_path: Path, weeks: int, days: str) -> None:
    """In all three jobs' arguments."""
    settings = load(file(tmp_path, GOOD + f"[schedule]\ncycle_weeks = {weeks}\n"))
    clients: Any = SimpleNamespace(url=lambda service: f"https://{service}.googleapis.com")
    for job in row(settings, "laptop", WorkflowTemplate).desired(clients)["jobs"]:
        arguments = job["pyspark_job"]["args"]
        assert arguments[arguments.index("--evaluation-days") + 1] == days


@pytest.mark.usefixtures("built")
def test_the_gate_tries_a_model_with_the_memory_that_it_is_served_with(tmp_path: Path) -> None:
    """What the workflow promotes fits into an instance, however small the settings make it."""
    settings = load(file(tmp_path, GOOD + '[functions.classify]\nmemory = "256Mi"\n'))
    clients: Any = SimpleNamespace(url=lambda service: f"https://{service}.googleapis.com")
    for job in row(settings, "laptop", WorkflowTemplate).desired(clients)["jobs"]:
        arguments = job["pyspark_job"]["args"]
        assert arguments[arguments.index("--instance-mib") + 1] == "256"


@pytest.mark.parametrize(
    "cron",
    ["0 3 * * *", "0 3 * * 1,4", "0 3 1 * *", "*/5 3 * * 1", "0 3 * 5 1", "0 3 1 * 1", "0 25 * * 1", "every monday"],
)
def test_a_schedule_that_does_not_fire_once_a_week_is_refused(tmp_path: Path, cron: str) -> None:
    """The workflow counts weeks: daily it would fire for nothing, monthly it would miss cycles."""
    with pytest.raises(SettingsError, match=r"schedule\.cron: .* does not fire once a week"):
        load(file(tmp_path, GOOD + f'[schedule]\ncron = "{cron}"\n'))


@pytest.mark.parametrize("cron", ["0 3 * * 1", "59 23 * * SUN", "05 00 * * 7"])
def test_a_weekly_schedule_is_taken(tmp_path: Path, cron: str) -> None:
    """In every form of unix-cron that means one day of the week."""
    assert load(file(tmp_path, GOOD + f'[schedule]\ncron = "{cron}"\n')).schedule.cron == cron


@pytest.mark.parametrize("weeks", [0, 53])
def test_a_cycle_has_one_to_fifty_two_weeks(tmp_path: Path, weeks: int) -> None:
    """More, and there is none in a year."""
    with pytest.raises(SettingsError, match=r"schedule\.cycle_weeks"):
        load(file(tmp_path, GOOD + f"[schedule]\ncycle_weeks = {weeks}\n"))


@pytest.mark.parametrize("region", ["us", "us-central1-a", "US-CENTRAL1", "europe"])
def test_what_is_no_region_is_refused(tmp_path: Path, region: str) -> None:
    """A zone, a multi-region."""
    with pytest.raises(SettingsError, match=r"targets\.laptop\.region: .* is no region, such as us-central1"):
        load(file(tmp_path, GOOD + f'region = "{region}"\n'))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ('cpu = "3"', "cpu 3 is none of 1, 2, 4, 6, 8"),
        ('cpu = "0.5"', "cpu 0.5 is less than one, which takes concurrency 1, not 80"),
        ('cpu = "1"\nmemory = "8Gi"', "cpu 1 goes with 0 to 4096 MiB of memory, not 8Gi"),
        ('cpu = "4"\nmemory = "512Mi"', "cpu 4 goes with 2048 to 16384 MiB of memory, not 512Mi"),
    ],
)
def test_a_size_that_cloud_run_has_not_is_refused(tmp_path: Path, size: str, words: str) -> None:
    """Before anything is deployed, instead of by the function's own deployment."""
    with pytest.raises(SettingsError, match=f"functions.classify: .*{words}"):
        load(file(tmp_path, GOOD + f"[functions.classify]\n{size}\n"))


TWO = (
    GOOD
    + """
[targets.production]
project = "example-production"
[archive]
max_workers = 3
[functions.classify]
memory = "1Gi"
concurrency = 40
[targets.production.functions.classify]
concurrency = 7
min_instances = 2
[targets.production.archive]
max_workers = 30
[targets.production.schedule]
cycle_weeks = 1
[targets.production.monitoring]
email = "team@example.com"
"""
)


def test_a_target_has_tables_of_its_own_over_the_common_ones(tmp_path: Path) -> None:
    """Field by field: what it does not say is as it is for all. Other targets see nothing of it."""
    settings = load(file(tmp_path, TWO))
    production, laptop = (settings.of(settings.target(name)) for name in ("production", "laptop"))
    size = production.functions.classify
    assert (size.memory, size.concurrency, size.min_instances) == ("1Gi", 7, 2)
    assert production.functions.submit == settings.functions.submit
    assert (production.archive.max_workers, production.archive.window_seconds) == (30, 60)
    assert (production.schedule.cycle_weeks, production.schedule.cron) == (1, "0 3 * * 1")
    assert production.monitoring.email == "team@example.com"
    assert laptop == settings
    assert production.of(settings.target("production")) == production


def test_every_table_may_be_a_targets_own() -> None:
    """There is one rule for all of them, and no list to keep."""
    tables = set(Settings.model_fields) - {"default_target", "use_case", "targets"}
    assert set(TABLES) == tables
    assert tables <= set(Target.model_fields)


@pytest.mark.usefixtures("built")
def test_what_is_deployed_follows_the_targets_own_settings(tmp_path: Path) -> None:
    """Both functions that serve the model have one size."""
    settings = load(file(tmp_path, TWO))
    for name in ("classify", "classify-http"):
        assert row(settings, "production", Function, name).size.concurrency == 7
        assert row(settings, "laptop", Function, name).size.concurrency == 40


def test_a_mistake_in_a_targets_own_table_is_named_with_its_place(tmp_path: Path) -> None:
    """A value that cannot be, one that is wrong only beside the common ones, and a typo; all of them at once."""
    text = TWO.replace("concurrency = 7", 'concurrency = 7\ncpu = "0.5"').replace(
        "max_workers = 30", "max_wrokers = 30"
    )
    text = text.replace("cycle_weeks = 1", "cycle_weeks = 100")
    with pytest.raises(SettingsError) as caught:
        load(file(tmp_path, text + "[targets.production.volume]\nrecords_per_day = 1\n"))
    assert "targets.production.volume" in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        load(file(tmp_path, text))
    for place in (
        "targets.production.functions.classify: Value error, cpu 0.5 is less than one",
        "targets.production.archive.max_wrokers",
        "targets.production.schedule.cycle_weeks",
    ):
        assert place in str(caught.value)


def test_a_targets_own_value_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every setting can."""
    monkeypatch.setenv("LUNATION_TARGETS__PRODUCTION__FUNCTIONS__CLASSIFY__MIN_INSTANCES", "5")
    settings = load(file(tmp_path, TWO))
    size = settings.of(settings.target("production")).functions.classify
    assert (size.min_instances, size.concurrency) == (5, 7)
