"""A smoke test of a deployment: one marked record goes in, is seen everywhere that it should be, and is taken away.

The record has the use case's example features under an id and a time of its own: no real record is of that day, so
what the archive files of it lies in a folder of its own, and can be taken away without touching anything else.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal

from google.api_core.exceptions import Forbidden, GoogleAPICallError, InvalidArgument, NotFound
from googleapiclient.errors import HttpError
from pydantic import ValidationError

from lunation import query
from lunation.clients import Clients
from lunation.deploy.monitoring import AlertPolicy
from lunation.deploy.names import archive_bucket
from lunation.deploy.resource import Resource
from lunation.ledger import archived_objects, contents
from lunation.settings import Settings
from schemas import DeadLetter, use_case
from schemas.training_run import RunState

MARK = "lunation-smoke-"
"""How the ids of marked records begin."""
DAY = date(1970, 1, 2)
"""The event date of marked records."""
SETTLE_SECONDS = 180.0
"""How long after the archive's window everything is waited for."""
CLOCKS_APART = timedelta(minutes=5)
"""So far this machine's clock may be from Cloud Storage's."""
PAUSE_SECONDS = 2.0
State = Literal["ok", "failed", "not yet", "not seen"]


@dataclass(frozen=True)
class Step:
    """What came of one look.

    Args:
        name: what was looked for.
        state: ``not yet`` is no failure: there is a reason, such as that no model has been trained. What whoever asks
            may not look at is ``not seen``.
        found: what was seen, in half a sentence.
        fix: what to do about it; empty if there is nothing to do.
        seconds: from the record's publication until it was seen.
    """

    name: str
    state: State
    found: str
    fix: str = ""
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def smoke(
    settings: Settings,
    clients: Clients,
    rows: list[Resource],
    *,
    patience: float = SETTLE_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Step]:
    """Send a marked record, and a message that is no record; look where they arrive; take the record away.

    Args:
        rows: the table, whose alerts' filters are tried.
        patience: seconds beyond the archive's window.
        say: told what is being waited for.
    """
    marked = _Marked(settings, clients)
    unseen = []
    try:
        marked.publish()
        yield Step("publish", "ok", f"record {marked.record_id} and one message that is no record")
        deadline = time.monotonic() + settings.archive.window_seconds + patience
        for name, look, fix in marked.looks():
            say(name)
            step = _wait(name, look, fix, marked.published_at, deadline)
            if step.state != "ok":
                unseen.append(step.name)
            yield step
    finally:
        say("taking the record away")
        left = marked.take_away()
    if unseen and not left:
        left = f"what may still arrive is taken away by the next smoke test: {', '.join(unseen)}"
    yield Step("taken away", "not yet" if left else "ok", left or "record, copy and answer")
    for row in rows:
        if isinstance(row, AlertPolicy):
            say(row.address)
            yield _filter_of(row, clients)


def _wait(name: str, look: Callable[[], Step | str | None], fix: str, since: float, deadline: float) -> Step:
    """Look again and again until something is found, or time is up."""
    while True:
        found = look()
        seconds = round(time.monotonic() - since, 1)
        if isinstance(found, Step):
            return found
        if found is not None:
            return Step(name, "ok", found, seconds=seconds)
        if time.monotonic() > deadline:
            return Step(name, "failed", f"not seen within {seconds:.0f} s", fix)
        time.sleep(PAUSE_SECONDS)


class _Marked:
    """The marked record, and the message that is none."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.record_id = f"{MARK}{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._clients = clients
        self._case = use_case(settings.use_case)
        self._message_id = ""
        self._began = datetime.now(UTC)
        self.published_at = 0.0

    def publish(self) -> None:
        """Publish both to ``records``.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: Pub/Sub refuses them.
        """
        document = {
            "record_id": self.record_id,
            "event_time": f"{DAY}T00:00:00Z",
            "features": self._case.example_features,
        }
        topic = f"projects/{self._clients.project}/topics/records"
        send = self._clients.publisher.publish
        sent = send(topic, json.dumps(document).encode(), record_id=self.record_id)
        refused = send(topic, b"no record: a smoke test", smoke=self.record_id)
        sent.result(timeout=60)
        self._message_id = refused.result(timeout=60)
        self.published_at = time.monotonic()

    def looks(self) -> Iterator[tuple[str, Callable[[], Step | str | None], str]]:
        """What is looked for, how, and what to do if it is not there."""
        logs = f"gcloud logging read 'jsonPayload.record_id=\"{self.record_id}\"' --project={self._clients.project}"
        yield "copy in Record", self._mirrored, f"look at function ingest-fast: {logs}"
        yield "answer in Classification", self._answered, f"look at function classify: {logs}"
        yield "object in the archive", self._archived, "look at the archive job's page: lunation-archive in Dataflow"
        yield (
            "dead letters of all three",
            self._refused,
            "look at the subscription dead-letters-archive and at the three consumers' logs",
        )

    def _mirrored(self) -> str | None:
        return "seen" if query.record(self._clients.datastore, self.record_id) is not None else None

    def _answered(self) -> Step | str | None:
        found = query.classification(self._clients.datastore, self.record_id)
        if found is not None:
            return f"{found.label} by {found.model_version}, generation {found.generation}"
        if query.pointer(self._clients.datastore, self._case.name) is None:
            return Step(
                "answer in Classification",
                "not yet",
                f"no model of {self._case.name} serves; Pub/Sub keeps the record for one, for seven days",
                "lunation retrain --wait",
            )
        return None

    def _archived(self) -> str | None:
        for blob, content in contents(self._objects()):
            if self.record_id.encode() in content:
                return f"gs://{blob.bucket.name}/{blob.name}"
        return None

    def _refused(self) -> str | None:
        """The dead letters are read in the archive: taken from a subscription, they would be missed there."""
        wanted = {"archive", "ingest_fast", "classify"}
        today = datetime.now(UTC).date()
        objects = archived_objects(
            self._clients.storage,
            archive_bucket(self._clients.target),
            "dead-letters",
            today - timedelta(days=1),
            today,
        )
        units = set()
        for _, content in contents(one for one in objects if one.time_created >= self._began - CLOCKS_APART):
            for line in content.splitlines():
                if self._message_id.encode() in line:
                    with contextlib.suppress(ValidationError):  # it is no dead letter, whoever put it there
                        letter = DeadLetter.model_validate_json(line)
                        if letter.message_id == self._message_id:
                            units.add(letter.unit)
        return f"of {', '.join(sorted(units))}" if wanted <= units else None

    def _objects(self) -> Iterator[Any]:
        return archived_objects(self._clients.storage, archive_bucket(self._clients.target), "records", DAY, DAY)

    def take_away(self) -> str:
        """Delete what there is of the record. Returns what stays, and why; empty if nothing does."""
        client = self._clients.datastore
        for kind in ("Record", "Classification"):
            # Those of earlier tests, too: an answer may have come after a test that had no model to wait for.
            marked = client.query(kind=kind)
            marked.keys_only()
            marked.key_filter(client.key(kind, MARK), ">=")
            marked.key_filter(client.key(kind, self.record_id), "<=")
            client.delete_multi([entity.key for entity in marked.fetch()])
        broken: list[query.Broken] = []  # one that cannot be read may be running
        runs = query.training_runs(client, self._case.name, 5, broken.append)
        if broken or any(run.state is RunState.RUNNING for run in runs):
            return f"a training is running, which may have listed the archive's objects of {DAY}: they stay, unlabelled"
        for blob, content in contents(self._objects()):
            if all(MARK.encode() in line for line in content.splitlines()):
                blob.delete(if_generation_match=blob.generation)
        return ""


def _filter_of(row: AlertPolicy, clients: Clients) -> Step:
    """Whether the service takes the alert's filter, by asking it for what there is."""
    (condition,) = row.desired(clients)["conditions"]
    log, metric = condition.get("condition_matched_log"), condition.get("condition_threshold")
    text = (log or metric)["filter"]
    fix = f"the filter of {row.address} is refused: {text}"
    try:
        if log is not None:
            body = {"resourceNames": [f"projects/{clients.project}"], "filter": text, "pageSize": 1}
            clients.discovered("logging", "v2").entries().list(body=body).execute()
        else:
            now = time.time()
            clients.metrics.list_time_series(
                request={
                    "name": f"projects/{clients.project}",
                    "filter": text,
                    "interval": {"start_time": {"seconds": int(now) - 300}, "end_time": {"seconds": int(now)}},
                    "view": "HEADERS",
                    "page_size": 1,
                }
            )
    except (InvalidArgument, HttpError, Forbidden) as error:
        status = error.status_code if isinstance(error, HttpError) else error.code
        if status == HTTPStatus.BAD_REQUEST:
            return Step(f"filter of {row.address}", "failed", str(error), fix)
        viewer = "roles/logging.viewer" if log is not None else "roles/monitoring.viewer"
        grant = f"gcloud projects add-iam-policy-binding {clients.project} --member={clients.principal} --role={viewer}"
        tried = f"could not be tried: {error}"
        return Step(f"filter of {row.address}", "not seen", tried, grant if status == HTTPStatus.FORBIDDEN else "")
    except NotFound as error:  # the metric is known once the first value of it was written
        return Step(f"filter of {row.address}", "not yet", str(error))
    except GoogleAPICallError as error:
        return Step(f"filter of {row.address}", "not seen", f"could not be tried: {error}")
    return Step(f"filter of {row.address}", "ok", "taken")
