"""Half a deployment of an older release, much of which does not work: a plan sees it, and a deployment mends it.

Each state is one that a run can leave that was killed, or that a service goes into by itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3.types import JobState
from google.cloud.datastore_admin_v1.types import Index
from google.cloud.functions_v2 import types as functions_v2

from lunation.deploy.artefacts import Artefact
from lunation.deploy.dataflow import StreamingJob
from lunation.deploy.datastore import CompositeIndex, Database, TimeToLive
from lunation.deploy.functions import Function
from lunation.deploy.message_schemas import MessageSchema
from lunation.deploy.plan import apply, plan
from lunation.deploy.pubsub import Subscription, Topic
from lunation.deploy.resource import Resource
from lunation.deploy.storage import Bucket
from lunation.settings import FunctionSize
from tests.lunation.google import PROJECT, Functions, Google, Indexes, google
from tests.support import ServerProcess

FUNCTIONS = f"projects/{PROJECT}/locations/us-central1/functions"
FIELD = f"projects/{PROJECT}/databases/(default)/collectionGroups/Record/fields/expire_at"
OLD, NEW = "0a1b", "2c3d"


@pytest.fixture
def functions() -> Functions:
    """What answers for functions."""
    return Functions()


@pytest.fixture
def indexes() -> Indexes:
    """What answers for indexes."""
    return Indexes()


@pytest.fixture
def cloud(
    functions: Functions,
    indexes: Indexes,
    serve: Callable[[str], ServerProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Google]:
    """An empty project."""
    servers = {name: serve(name) for name in ("pubsub", "storage")}
    laptop = {name: {"http": one.http, "grpc": one.grpc} for name, one in servers.items()}
    instead = {"functions": functions.answer, "datastore": indexes.answer}
    with google(tmp_path, monkeypatch, instead=instead, laptop=laptop) as made:
        yield made


def rows(folder: Path, release: str) -> list[Resource]:
    """A small table: one row or two of each kind that has a state."""
    email = f"lunation-{{}}@{PROJECT}.iam.gserviceaccount.com"

    def function(name: str) -> Function:
        path = folder / f"{name}-{release}.zip"
        path.write_bytes(release.encode())
        return Function(
            name,
            entry_point=name,
            source=Artefact(path, f"{name}/{release}.zip", release),
            bucket=f"{PROJECT}-build",
            size=FunctionSize(memory="512Mi", cpu="1", max_instances=20, concurrency=80),
            service_account=email.format(name),
            build_account=email.format("build"),
            repository=f"projects/{PROJECT}/locations/us-central1/repositories/lunation",
            environment=lambda _: {},
        )

    fields = ("id", "label") if release == OLD else ("id", "weight", "label")
    proto = "".join(f"  optional string {name} = {number};\n" for number, name in enumerate(fields, 1))
    return [
        Bucket(f"{PROJECT}-build", keeps_data=False),
        Database("(default)"),
        CompositeIndex("Classification", "label", "-classified_at"),
        CompositeIndex("Record", "state", "received_at"),
        TimeToLive("Record", "expire_at"),
        MessageSchema("lunation-label", f'syntax = "proto3";\nmessage Label {{\n{proto}}}\n'),
        Topic("records"),
        *(function(name) for name in ("classify", "ingest", "submit")),
        Subscription("records-archive", "records"),
        StreamingJob(
            "lunation-archive",
            spec=f"gs://{PROJECT}-build/dataflow/{release}.json",
            parameters={"use_case": "flights"},
            labels={"system": "lunation", "source": release},
            service_account=email.format("archive"),
            image=f"us-central1-docker.pkg.dev/{PROJECT}/lunation/archive:{release}",
        ),
    ]


def left(cloud: Google, folder: Path, functions: Functions, indexes: Indexes) -> Callable[[float], None]:
    """Leave what an older release made; answers a pause, in each of which one thing comes to its end."""
    older = [row for row in rows(folder, OLD) if row.address != "function/submit"]
    apply([*older, Subscription("records-gone", "records")], cloud.clients)
    bucket = cloud.clients.storage.get_bucket(f"{PROJECT}-build")
    bucket.add_lifecycle_delete_rule(age=7, matches_prefix=["dataflow/staging/"])
    bucket.patch()
    functions.things[f"{FUNCTIONS}/classify"].state = functions_v2.Function.State.FAILED
    functions.things[f"{FUNCTIONS}/ingest"].state = functions_v2.Function.State.DEPLOYING
    building, broken = indexes.kept.values()
    building.state, broken.state = Index.State.CREATING, Index.State.ERROR
    cloud.project.things[FIELD].ttl_config.state = 3  # NEEDS_REPAIR
    (job,) = cloud.project.below("jobs/")
    job.current_state = JobState.JOB_STATE_PENDING

    ends = iter(
        (
            lambda: setattr(building, "state", Index.State.READY),
            lambda: setattr(functions.things[f"{FUNCTIONS}/ingest"], "state", functions_v2.Function.State.ACTIVE),
            lambda: setattr(job, "current_state", JobState.JOB_STATE_RUNNING),
        )
    )

    def later(_: float) -> None:
        next(ends)()

    return later


def test_the_plan_shows_each_state(cloud: Google, functions: Functions, indexes: Indexes, tmp_path: Path) -> None:
    """Beside what the newer release changes; nothing is changed by looking."""
    left(cloud, tmp_path, functions, indexes)
    shown: dict[str, Any] = {}
    for change in plan(rows(tmp_path, NEW), cloud.clients):
        shown[change.address] = [path for path, _, _ in change.fields] or change.action
    assert shown == {
        f"bucket/{PROJECT}-build": ["lifecycle"],
        "database/(default)": "unchanged",
        "index/Classification(label, -classified_at)": ["state"],
        "index/Record(state, received_at)": ["state"],
        "ttl/Record.expire_at": ["state"],
        "schema/lunation-label": ["definition"],
        "topic/records": "unchanged",
        "function/classify": ["labels.source", "state"],
        "function/ingest": ["labels.source", "state"],
        "function/submit": "create",
        "subscription/records-archive": "unchanged",
        "dataflow-job/lunation-archive": ["labels.source", "state"],
        "subscription/records-gone": "delete",
    }


def test_a_deployment_mends_all_of_it(cloud: Google, functions: Functions, indexes: Indexes, tmp_path: Path) -> None:
    """It waits for what is under way instead of making it twice; the next plan is empty."""
    later = left(cloud, tmp_path, functions, indexes)
    made_before = len(cloud.asked("CreateIndex"))
    waited: list[str] = []
    apply(rows(tmp_path, NEW), cloud.clients, wait=later, say=waited.append)
    assert [one.split()[0] for one in waited] == [
        "index/Classification(label,", "function/ingest", "dataflow-job/lunation-archive"
    ]  # fmt: skip
    assert len(cloud.asked("CreateIndex")) == made_before + 1  # in place of the one that could not be built
    assert indexes.states == ["READY", "READY"]
    assert [job.current_state for job in cloud.project.below("jobs/")] == [
        JobState.JOB_STATE_UPDATED, JobState.JOB_STATE_RUNNING
    ]  # fmt: skip
    assert {change.action for change in plan(rows(tmp_path, NEW), cloud.clients)} == {"unchanged"}
