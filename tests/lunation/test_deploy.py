"""``lunation deploy`` and ``destroy`` against running servers: once, again, after a change, and down."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import Result
from google.cloud import datastore
from typer.testing import CliRunner

from laptop.identity import Identity
from laptop.supervisor import Supervisor
from lunation import query, smoke
from lunation.cli import app
from lunation.clients import Clients
from lunation.deploy import artefacts, job_files
from lunation.ledger import archived_objects
from lunation.settings import load
from schemas import ModelPointer


class Deployment:
    """The command, on servers of its own."""

    def __init__(self, endpoints: Path) -> None:
        self._variables = {"LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints), "COLUMNS": "200", "TERM": "dumb"}
        self.state = endpoints.parent
        self.clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))

    def run(self, *arguments: str, code: int = 0, **settings: str) -> Result:
        """The command with ``--target laptop``."""
        result = CliRunner().invoke(
            app, [*arguments, "--target", "laptop"], env={**self._variables, **settings}, catch_exceptions=False
        )
        assert result.exit_code == code, result.output
        return result

    def pending(self, **settings: str) -> list[dict[str, Any]]:
        """What plan would do; its exit code says the same."""
        result = CliRunner().invoke(
            app, ["plan", "--json", "--target", "laptop"], env={**self._variables, **settings}, catch_exceptions=False
        )
        found = [change for change in json.loads(result.stdout)["changes"] if change["action"] != "unchanged"]
        assert result.exit_code == (2 if found else 0)
        return found

    def revisions(self) -> dict[str, str]:
        """The revision of each function."""
        found = self.clients.functions.list_functions(parent=self.clients.location)
        return {one.name.rsplit("/", 1)[1]: one.service_config.revision for one in found}

    def jobs(self) -> list[str]:
        """States of the archive jobs, newest first."""
        request = {"project_id": self.clients.project, "location": self.clients.target.region}
        return [job.current_state.name for job in self.clients.dataflow_jobs.list_jobs(request=request)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Deployed once."""
    folder = tmp_path_factory.mktemp("deploy")
    with pytest.MonkeyPatch.context() as patch, Supervisor(folder / "state") as servers:
        patch.setattr(artefacts, "BUILD", folder / "build")
        for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.setenv(variable, "")  # the clients set them; they are put back afterwards
        servers.wait_ready()
        made = Deployment(folder / "state" / "endpoints.json")
        assert len(made.pending()) > 20
        assert "Deployed:" in made.run("deploy", "--yes").stdout
        yield made


def test_the_urls_are_those_that_answer(deployment: Deployment) -> None:
    """Both functions for callers are listed, a single one's URL stands alone, and behind each is that function."""
    urls = json.loads(deployment.run("urls", "--json").stdout)
    assert set(urls) == {"submit", "classify-http"}
    for name, path in (("submit", "/v1/records"), ("classify-http", "/v1/classify")):
        assert deployment.run("urls", name).stdout == urls[name] + "\n"
        token = Identity(deployment.state).token(
            f"lunation-caller@{deployment.clients.project}.iam.gserviceaccount.com", urls[name]
        )
        document = requests.get(urls[name] + "/openapi.json", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert path in document.json()["paths"]
    assert "no function 'classify'" in deployment.run("urls", "classify", code=1).stderr


def test_the_first_run_makes_everything(deployment: Deployment) -> None:
    """And each part of it runs."""
    clients = deployment.clients
    project = f"projects/{clients.project}"
    assert {one.name for one in clients.publisher.list_topics(project=project)} == {
        f"{project}/topics/{name}" for name in ("records", "labels", "classifications", "dead-letters", "comparisons")
    }
    assert set(deployment.revisions()) == {"ingest-fast", "classify", "classify-http", "submit"}
    assert deployment.jobs() == ["JOB_STATE_RUNNING"]
    assert [one.schedule for one in clients.scheduler.list_jobs(parent=clients.location)] == ["0 3 * * 1"]
    assert len(list(clients.workflows.list_workflows(parent=clients.location))) == 1


def test_the_second_run_changes_nothing(deployment: Deployment) -> None:
    """The plan is empty, and a deployment says so and deploys no new revision."""
    before = deployment.revisions()
    assert deployment.pending() == []
    assert "Nothing to do" in deployment.run("deploy").stdout
    assert deployment.revisions() == before
    assert deployment.jobs() == ["JOB_STATE_RUNNING"]


def test_a_run_that_changes_nothing_clears_up(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has ended since the last deployment left files."""
    monkeypatch.setattr(job_files, "MARGIN", timedelta(0))
    left = deployment.clients.storage.bucket(f"{deployment.clients.project}-build").blob(
        "dataflow/staging/lunation-backfill-0a1b2c3d.1788220830.222222/pipeline.pb"
    )
    left.upload_from_string(b"x")
    assert "Nothing to do" in deployment.run("deploy").stdout
    assert not left.exists()


def test_a_changed_setting_changes_only_what_it_means(deployment: Deployment) -> None:
    """Plan shows the field, deploy changes that resource and no other."""
    before = deployment.revisions()
    (change,) = deployment.pending(LUNATION_SCHEDULE__CRON="0 4 * * 1")
    assert change["address"] == "scheduler-job/lunation-retrain"
    assert change["fields"] == [["schedule", "0 3 * * 1", "0 4 * * 1"]]
    printed = deployment.run("deploy", "--yes", LUNATION_SCHEDULE__CRON="0 4 * * 1").stdout
    assert '"0 3 * * 1" → "0 4 * * 1"' in printed
    (job,) = deployment.clients.scheduler.list_jobs(parent=deployment.clients.location)
    assert job.schedule == "0 4 * * 1"
    assert deployment.revisions() == before
    deployment.run("deploy", "--yes")
    assert deployment.pending() == []


def test_a_plan_file_is_done_or_refused(deployment: Deployment, tmp_path: Path) -> None:
    """What was read is done without a question; what has changed since is named, and nothing is done."""
    file = tmp_path / "plan.json"
    cron = {"LUNATION_SCHEDULE__CRON": "0 5 * * 1"}
    deployment.run("plan", "--out", str(file), code=2, **cron)
    job = f"{deployment.clients.location}/jobs/lunation-retrain"
    assert "Deployed:" in deployment.run("deploy", "--plan", str(file), **cron).stdout
    assert deployment.clients.scheduler.get_job(name=job).schedule == "0 5 * * 1"
    deployment.clients.scheduler.update_job(
        request={"job": {"name": job, "schedule": "0 6 * * 1"}, "update_mask": {"paths": ["schedule"]}}
    )
    refused = deployment.run("deploy", "--plan", str(file), code=1, **cron)
    assert "scheduler-job/lunation-retrain: schedule: was changed since the plan was made" in refused.stderr
    assert deployment.clients.scheduler.get_job(name=job).schedule == "0 6 * * 1"
    file.write_text("{}")
    assert "is no plan" in deployment.run("deploy", "--plan", str(file), code=1).stderr
    deployment.run("deploy", "--yes")


def test_a_release_can_be_deployed_again(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed sources make another release; the older one's bytes run again when it is named, from the own bucket or
    from that of another project."""
    listed = json.loads(deployment.run("releases", "--json").stdout)
    (first,) = [one["id"] for one in listed]
    assert {"function/classify", "dataflow-job/lunation-archive", "workflow/retrain"} <= set(listed[0]["runs"])
    for folder in ("functions", *artefacts.SHARED, "dataflow", "spark", "workflows"):
        shutil.copytree(artefacts.ROOT / folder, tmp_path / folder)
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "ROOT", tmp_path)
        main = tmp_path / "functions" / "ingest_fast" / "main.py"
        main.write_text(main.read_text() + "# changed\n")
        before = deployment.revisions()
        deployment.run("deploy", "--yes")
        assert {name for name, revision in deployment.revisions().items() if revision != before[name]} == {
            "ingest-fast"
        }
        second, older = json.loads(deployment.run("releases", "--json").stdout)
        assert older["id"] == first
        assert "function/ingest-fast" in second["runs"]
        assert "function/ingest-fast" not in older["runs"]
        theirs = {"LUNATION_TARGETS__STAGING__SAMPLE": "false", "LUNATION_TARGETS__STAGING__ENDPOINTS":
                  str(deployment.clients.target.endpoints)}  # fmt: skip
        _copy_bucket(deployment.clients, "local-dev-build", "example-staging-build")
        promoted = ("--release", first, "--from", "staging")
        assert "no release" in deployment.run("plan", "--release", "beef", "--from", "staging", code=1, **theirs).stderr
        planned = json.loads(deployment.run("plan", "--json", *promoted, code=2, **theirs).stdout)
        assert (planned["release"], planned["from"]) == (first, "staging")
        printed = deployment.run("deploy", "--yes", *promoted, **theirs).stdout
        assert f"release {first}" in printed
        assert "function/ingest-fast" in json.loads(deployment.run("releases", "--json").stdout)[1]["runs"]
        assert "~ function/ingest-fast" in deployment.run("plan", "--release", second["id"], code=2).stdout
    assert deployment.pending() == []
    assert "there is no release beef" in deployment.run("deploy", "--release", "beef", code=1).stderr


def _copy_bucket(clients: Clients, source: str, target: str) -> None:
    copies = clients.storage.create_bucket(target)
    for blob in clients.storage.list_blobs(source):
        clients.storage.bucket(source).copy_blob(blob, copies)


def test_what_was_changed_or_deleted_by_hand_is_put_right(deployment: Deployment) -> None:
    """Drift is shown field by field; a resource that is gone is made again."""
    clients = deployment.clients
    deployment.run("deploy", "--yes")
    topic = f"projects/{clients.project}/topics/labels"
    clients.publisher.update_topic(
        request={"topic": {"name": topic, "labels": {"system": "mine"}}, "update_mask": {"paths": ["labels"]}}
    )
    review = f"projects/{clients.project}/subscriptions/classifications-review"
    clients.subscriber.delete_subscription(subscription=review)
    found = {change["address"]: change for change in deployment.pending()}
    assert {address: change["action"] for address, change in found.items()} == {
        "topic/labels": "change",
        "subscription/classifications-review": "create",
    }
    assert found["topic/labels"]["fields"] == [["labels.system", "mine", "lunation"]]
    deployment.run("deploy", "--yes")
    assert deployment.pending() == []


def test_what_an_older_release_had_pubsub_take_out_is_taken_out_no_more(deployment: Deployment) -> None:
    """Its dead-letter policy is in the plan, and gone after the deployment; the rest of the subscription stays."""
    clients = deployment.clients
    deployment.run("deploy", "--yes")
    path = f"projects/{clients.project}/subscriptions/records-classify"
    topic = f"projects/{clients.project}/topics/dead-letters"
    policy = {"dead_letter_topic": topic, "max_delivery_attempts": 100}
    before = clients.subscriber.get_subscription(subscription=path)
    clients.subscriber.update_subscription(
        request={
            "subscription": {"name": path, "dead_letter_policy": policy},
            "update_mask": {"paths": ["dead_letter_policy"]},
        }
    )
    (change,) = deployment.pending()
    assert change["fields"] == [
        ["dead_letter_policy.dead_letter_topic", topic, None],
        ["dead_letter_policy.max_delivery_attempts", 100, None],
    ]
    deployment.run("deploy", "--yes")
    assert clients.subscriber.get_subscription(subscription=path) == before
    assert not before.dead_letter_policy
    assert deployment.pending() == []


def test_a_smoke_test_sees_the_marked_record_everywhere_and_takes_it_away(deployment: Deployment) -> None:
    """Before the first model there is a reason why it is not answered; what is no record comes out as a dead letter of
    each consumer; nothing of the record, and of an earlier test whose answer came late, is left in Datastore and in the
    archive."""
    client = deployment.clients.datastore
    client.put(datastore.Entity(client.key("Classification", f"{smoke.MARK}20200101-000000-late")))
    client.put(datastore.Entity(client.key("Classification", "lunation-smoking-is-bad")))
    steps = {step["name"]: step for step in json.loads(deployment.run("smoke", "--json").stdout)}
    assert {name: step["state"] for name, step in steps.items()} == {
        "publish": "ok",
        "copy in Record": "ok",
        "answer in Classification": "not yet",
        "object in the archive": "ok",
        "dead letters of all three": "ok",
        "taken away": "not yet",
    }
    assert "answer in Classification" in steps["taken away"]["found"]
    assert list(query.keys(client, "Classification")) == ["lunation-smoking-is-bad"]
    client.delete(client.key("Classification", "lunation-smoking-is-bad"))
    assert "retrain" in steps["answer in Classification"]["fix"]
    assert list(query.keys(deployment.clients.datastore, "Record")) == []
    assert (
        list(archived_objects(deployment.clients.storage, "local-dev-archive", "records", smoke.DAY, smoke.DAY)) == []
    )


def test_a_list_of_a_release_that_is_none_is_named(deployment: Deployment) -> None:
    """With its object and what to do, whoever put it there."""
    bucket = deployment.clients.storage.bucket(f"{deployment.clients.project}-build")
    for content in (b"{", b"null", b'{"functions": {}}'):
        blob = bucket.blob("releases/0123456789ab.json")
        blob.upload_from_string(content)
        try:
            for arguments in (["releases"], ["deploy", "--release", "0123456789ab"]):
                said = deployment.run(*arguments, code=1).stderr
                assert "releases/0123456789ab.json is no list of a release" in said
        finally:
            blob.delete()


def test_verify_says_that_what_the_pointer_names_does_not_load(deployment: Deployment) -> None:
    """As the deployed classifier says, asked with a token of the account that may call it; the exit code tells. Before
    the first model there is nothing to be served."""
    clients = deployment.clients
    first = json.loads(deployment.run("verify", "--json").stdout)
    assert (first["accounted"], first["troubles"], first["unasked"]) == (True, [], None)
    pointer = ModelPointer(
        use_case="flights", model_version="2013-03-01/gone", uri=f"gs://{clients.project}-models/models/2013-03-01/gone",
        manifest_sha256="0" * 64, generation=1, moved_at=datetime(2013, 3, 1, tzinfo=UTC),
    )  # fmt: skip
    entity = datastore.Entity(clients.datastore.key("ModelPointer", "flights"))
    entity.update(pointer.model_dump())
    clients.datastore.put(entity)
    try:
        found = json.loads(deployment.run("verify", "--json", code=2).stdout)
        assert (found["accounted"], found["unasked"]) == (False, None)
        (trouble,) = found["troubles"]
        assert "gone/manifest.json" in trouble
        printed = deployment.run("verify", code=2)
        assert f"the pointer is not followed: {trouble}" in printed.stderr
        assert "Every record is accounted for." not in printed.stdout
        shown = deployment.run("models")
        assert "The pointer names 2013-03-01/gone, generation 1" in shown.stdout
        assert "No model serves in the instance that was asked." in shown.stdout
        assert "serves since" not in shown.stdout
        assert f"the pointer is not followed: {trouble}" in shown.stderr
    finally:
        clients.datastore.delete(entity.key)


def test_a_smoke_test_names_the_consumer_that_is_not_there(deployment: Deployment) -> None:
    """With the subscription gone, nobody mirrors the record: exit code 2, and where to look."""
    name = f"projects/{deployment.clients.project}/subscriptions/records-ingest-fast"
    deployment.clients.subscriber.delete_subscription(subscription=name)
    try:
        steps = {
            step["name"]: step
            for step in json.loads(deployment.run("smoke", "--json", "--patience", "0", code=2,
                                                  LUNATION_ARCHIVE__WINDOW_SECONDS="10").stdout)
        }  # fmt: skip
    finally:
        deployment.run("deploy", "--yes")
    assert steps["copy in Record"]["state"] == "failed"
    assert "ingest-fast" in steps["copy in Record"]["fix"]
    assert steps["object in the archive"]["state"] == "ok"


def test_destroy_takes_down_all_but_the_data(deployment: Deployment) -> None:
    """Records, models and entities stay; a second run finds nothing to delete; deploy makes the rest again."""
    clients = deployment.clients
    archive, models = f"{clients.project}-archive", f"{clients.project}-models"
    clients.storage.bucket(archive).blob("archive/records/kept.json").upload_from_string("{}")
    entity = datastore.Entity(clients.datastore.key("Record", "kept"))
    clients.datastore.put(entity)
    printed = deployment.run("destroy", "--yes").stdout
    assert f"bucket/{models}: it keeps data" in printed
    assert f"bucket/{archive}: it keeps data" in printed
    project = f"projects/{clients.project}"
    assert list(clients.publisher.list_topics(project=project)) == []
    assert list(clients.subscriber.list_subscriptions(project=project)) == []
    assert deployment.revisions() == {}
    assert list(clients.workflows.list_workflows(parent=clients.location)) == []
    assert list(clients.scheduler.list_jobs(parent=clients.location)) == []
    regional = f"{project}/regions/{clients.target.region}"
    assert list(clients.workflow_templates.list_workflow_templates(parent=regional)) == []
    assert set(deployment.jobs()) == {"JOB_STATE_DRAINED"}
    buckets = {bucket.name for bucket in clients.storage.list_buckets()}
    assert {archive, models} <= buckets
    assert f"{clients.project}-build" not in buckets
    assert clients.storage.bucket(archive).blob("archive/records/kept.json").exists()
    assert clients.datastore.get(entity.key) is not None
    assert "Deleted 0 resources" in deployment.run("destroy", "--yes").stdout
    assert all(change["action"] == "create" for change in deployment.pending())
