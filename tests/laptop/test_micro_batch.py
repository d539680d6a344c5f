"""The micro-batch runner, which knows no pipeline of ours, with small pipelines and a real Pub/Sub on loopback."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.io.gcp.pubsub import ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.trigger import AccumulationMode, AfterWatermark
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows

from laptop import micro_batch
from laptop.micro_batch import MicroBatchRunner
from tests.pubsub_support import Clients
from tests.support import ROOT, ServerProcess, eventually

SUBSCRIPTION = "projects/local-dev/subscriptions/reader"

PROGRAM = '''
"""Counts words of each minute and appends a line for each; sleeps or fails on demand. Knows nothing but Beam."""
import json, os, sys, time
from pathlib import Path
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

out = Path(sys.argv[1])

def write(element, window=beam.DoFn.WindowParam):
    if (out / "hold").exists():
        (out / "holding").touch()
        while (out / "hold").exists():
            time.sleep(0.02)
    if (out / "fail").exists():
        raise OSError("the disk is full")
    word, details = element
    with (out / "words").open("a") as file:
        for data, attributes, message_id in details:
            line = [word, data, attributes, message_id, window.start.seconds()]
            file.write(json.dumps(line) + "\\n")

def parse(message):
    return message.data.decode().split()[0], (message.data.decode(), message.attributes, message.message_id)

with beam.Pipeline(options=PipelineOptions(sys.argv[2:])) as pipeline:
    _ = (
        pipeline
        | beam.io.ReadFromPubSub(subscription="projects/local-dev/subscriptions/reader", with_attributes=True)
        | beam.Map(parse)
        | beam.WindowInto(beam.window.FixedWindows(60))
        | beam.GroupByKey()
        | beam.Map(write)
    )
'''


class Job:
    """A small pipeline in a process of its own, and what it wrote."""

    def __init__(self, folder: Path, pubsub: ServerProcess) -> None:
        self.folder = folder
        self._pubsub = pubsub
        (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "program.py", str(self.folder), "--runner=laptop.micro_batch.MicroBatchRunner"),
                    *("--streaming", "--project=local-dev"),
                ],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PUBSUB_EMULATOR_HOST": self._pubsub.grpc},
                stdout=log,
                stderr=log,
            )

    def end(self, number: int) -> int:
        """Send a signal, and answer the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def touch(self, name: str) -> None:
        """Set one of the program's switches."""
        (self.folder / name).touch()

    def holding(self) -> bool:
        """Whether a batch is held in its write."""
        return (self.folder / "holding").exists()

    def lines(self) -> list[list[Any]]:
        """What was written. Fails if the job has ended by itself."""
        assert self.process is not None
        assert self.process.poll() in (None, 0, -signal.SIGKILL), self.log()
        path = self.folder / "words"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def texts(self) -> list[str]:
        """The messages that were written, in order of their text."""
        return sorted(line[1] for line in self.lines())

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text()


@pytest.fixture
def pubsub(serve: Callable[..., ServerProcess]) -> ServerProcess:
    return serve("pubsub")


@pytest.fixture
def clients(pubsub: ServerProcess) -> Iterator[Clients]:
    clients = Clients(pubsub.grpc)
    clients.subscription(clients.topic(), ack_deadline_seconds=600)  # what is delivered sooner was given back
    yield clients
    clients.close()


@pytest.fixture
def job(tmp_path: Path, pubsub: ServerProcess, clients: Clients) -> Iterator[Job]:
    """The job, not started; killed with the test."""
    (tmp_path / "job").mkdir()
    made = Job(tmp_path / "job", pubsub)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def publish(clients: Clients, *texts: str, **attributes: str) -> list[str]:
    """Publish texts to the topic."""
    return clients.publish("projects/local-dev/topics/records", *(text.encode() for text in texts), **attributes)


def left(clients: Clients) -> list[str]:
    """What the subscription still has to give, at once."""
    return sorted(data.decode() for data in clients.drain(SUBSCRIPTION))


def test_a_streaming_pipeline_runs_as_it_is(job: Job, clients: Clients) -> None:
    """Keys, windows of the publish time, attributes and ids are what the service would give; each message is
    acknowledged once it has gone through, and SIGTERM ends the job in order."""
    before = time.time()
    ids = publish(clients, "sun 1", "moon 1", "sun 2", colour="red")
    job.start()
    eventually(lambda: len(job.lines()) == 3, 30)
    publish(clients, "moon 2")
    eventually(lambda: len(job.lines()) == 4, 30)
    assert job.end(signal.SIGTERM) == 0
    assert job.texts() == ["moon 1", "moon 2", "sun 1", "sun 2"]
    first = {line[1]: line for line in job.lines()}
    assert first["sun 2"][:4] == ["sun", "sun 2", {"colour": "red"}, ids[2]]
    windows = {line[4] for line in job.lines()}
    assert windows <= {before // 60 * 60, time.time() // 60 * 60}
    assert left(clients) == []


def test_messages_of_any_size_go_through(job: Job, clients: Clients) -> None:
    """Many at once, and up to the 10 MB that Pub/Sub takes: none waits for ever, and none holds up its neighbours."""
    texts = [f"sun {number}".ljust(6_000) for number in range(1000)]
    texts += [f"moon {number}".ljust(50_000) for number in range(100)]
    for start in range(0, 1100, 100):
        publish(clients, *texts[start : start + 100])
    large = [f"star {size}".ljust(size) for size in (2_000_000, 9_999_000, 5_000_000)]
    for text in large:
        publish(clients, text, "small " + str(len(text)))
    expected = sorted((*texts, *large, *(f"small {len(text)}" for text in large)))
    job.start()
    written = job.folder / "words"
    eventually(lambda: written.exists() and written.read_bytes().count(b"\n") == len(expected), 60)
    assert job.end(signal.SIGTERM) == 0
    assert job.texts() == expected
    assert left(clients) == []


def test_a_batch_that_fails_comes_again(job: Job, clients: Clients) -> None:
    """Nothing of it is acknowledged, it is given back at once, and the cause is in the log."""
    publish(clients, "sun 1", "moon 1")
    job.touch("fail")
    job.start()
    eventually(lambda: job.log().count("will come again") >= 2, 30)
    assert job.lines() == []
    assert "the disk is full" in job.log()
    (job.folder / "fail").unlink()
    eventually(lambda: job.texts() == ["moon 1", "sun 1"], 30)
    assert job.end(signal.SIGINT) == 0
    assert left(clients) == []


def test_a_drain_ends_the_batch_and_gives_back_the_rest(job: Job, clients: Clients) -> None:
    """What is under way is written and acknowledged; what was pulled beyond it is there for the next job at once."""
    job.touch("hold")
    publish(clients, "sun 1")
    job.start()
    eventually(job.holding, 30)
    publish(clients, "sun 2", "sun 3")
    assert job.process is not None

    def the_job_has_them() -> bool:
        messages = clients.pull(SUBSCRIPTION)
        if messages:
            clients.nack(SUBSCRIPTION, messages)  # or they would be ours, for as long as our lease lasts
        return not messages

    eventually(the_job_has_them, 10)  # a batch behind
    job.process.send_signal(signal.SIGTERM)
    (job.folder / "hold").unlink()
    assert job.process.wait(20) == 0
    written, rest = job.texts(), left(clients)
    assert "sun 1" in written
    assert sorted(written + rest) == ["sun 1", "sun 2", "sun 3"]
    assert rest == ["sun 2", "sun 3"]


def test_what_a_killed_job_held_is_delivered_again(job: Job, pubsub: ServerProcess, clients: Clients) -> None:
    """kill -9 in the middle of a batch, before its write: the next job gets every message."""
    job.touch("hold")
    publish(clients, "sun 1", "moon 1")
    job.start()
    eventually(job.holding, 30)
    job.end(signal.SIGKILL)
    assert job.lines() == []
    (job.folder / "hold").unlink()
    pubsub.kill()  # its leases end with it; without that they run out after their time
    pubsub.start()
    job.start()
    eventually(lambda: job.texts() == ["moon 1", "sun 1"], 30)


def test_a_lease_lasts_as_long_as_the_work(job: Job, clients: Clients) -> None:
    """Longer than the subscription's own deadline: what is being worked on is not delivered to another."""
    clients.subscriber.delete_subscription(subscription=SUBSCRIPTION)
    clients.subscription("projects/local-dev/topics/records", ack_deadline_seconds=10)
    job.touch("hold")
    publish(clients, "sun 1")
    job.start()
    eventually(job.holding, 30)
    until = time.monotonic() + 11
    others: list[Any] = []

    def over() -> bool:
        others.extend(clients.pull(SUBSCRIPTION))
        return time.monotonic() > until

    eventually(over, 15)
    (job.folder / "hold").unlink()
    publish(clients, "sun 2")  # behind the first one, had that come a second time
    eventually(lambda: "sun 2" in job.texts(), 30)
    assert job.texts() == ["sun 1", "sun 2"]
    assert others == []


def test_pub_sub_may_go_away_and_come_back(job: Job, pubsub: ServerProcess, clients: Clients) -> None:
    """The job waits for it, with a word in the log, and goes on."""
    publish(clients, "sun 1")
    job.start()
    eventually(lambda: job.texts() == ["sun 1"], 30)
    pubsub.kill()
    eventually(lambda: "cannot pull from" in job.log(), 30)
    pubsub.start()
    publish(clients, "sun 2")
    eventually(lambda: "sun 2" in job.texts(), 40)


# --- what is refused


class _Remembers(beam.DoFn):
    SEEN = ReadModifyWriteStateSpec("seen", BytesCoder())

    def process(self, element: Any, seen: Any = beam.DoFn.StateParam(SEEN)) -> Iterator[Any]:
        """Never runs."""
        yield element


def _words(**options: Any) -> beam.PTransform:
    return ReadFromPubSub(subscription=SUBSCRIPTION, **options)


def _keyed(pipeline: beam.Pipeline) -> beam.PCollection:
    return pipeline | _words() | beam.Map(lambda data: (data.decode(), data)).with_output_types(tuple[str, bytes])


REFUSED: dict[str, tuple[Callable[[beam.Pipeline], object], str]] = {
    "a topic": (
        lambda pipeline: pipeline | ReadFromPubSub(topic="projects/local-dev/topics/records"),
        "reads from a topic: name a subscription",
    ),
    "an id label": (lambda pipeline: pipeline | _words(id_label="id"), "this runner has no id_label"),
    "a timestamp attribute": (
        lambda pipeline: pipeline | _words(timestamp_attribute="at"),
        "this runner has no timestamp_attribute",
    ),
    "state": (
        lambda pipeline: _keyed(pipeline) | "Remember" >> beam.ParDo(_Remembers()),
        "Remember: it keeps state or timers",
    ),
    "panes that accumulate": (
        lambda pipeline: (
            _keyed(pipeline)
            | beam.WindowInto(
                FixedWindows(60), trigger=AfterWatermark(), accumulation_mode=AccumulationMode.ACCUMULATING
            )
            | "Gather" >> beam.GroupByKey()
        ),
        "Gather: its panes accumulate",
    ),
    "another endless source": (
        lambda pipeline: (pipeline | _words(), pipeline | "Tick" >> PeriodicImpulse(fire_interval=1)),
        "Tick/.*: it is endless",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_it_does_not_support_is_refused_by_name(kind: str) -> None:
    """Before anything is read: a pipeline that would silently do something else does not start."""
    build, message = REFUSED[kind]
    pipeline = beam.Pipeline(runner=MicroBatchRunner(), options=PipelineOptions(["--streaming", "--project=local-dev"]))
    build(pipeline)
    with pytest.raises((ValueError, NotImplementedError), match=message):
        pipeline.run()


def test_a_pipeline_without_pub_sub_is_run_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, like any bounded pipeline; the Dataflow server is told that it is a batch job."""
    monkeypatch.setenv("LAPTOP_DATAFLOW_KIND", str(tmp_path / "kind"))
    with beam.Pipeline(runner=MicroBatchRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create(["b", "a"])
            | beam.combiners.ToList()
            | beam.Map(lambda words: (tmp_path / "words").write_text("".join(sorted(words))))
        )
    assert (tmp_path / "words").read_text() == "ab"
    assert (tmp_path / "kind").read_text() == "batch"


def test_few_messages_wait_for_more_only_while_more_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thin stream shares batches, for each costs as much as a full one; a message that stays alone is filed soon."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")  # nobody asks there
    monkeypatch.setattr(micro_batch, "LINGER_OF_FEW_SECONDS", 3.0)
    monkeypatch.setattr(micro_batch, "QUIET_SECONDS", 1.0)
    loop = micro_batch._Loop([SUBSCRIPTION], lambda: None)

    def pulled() -> None:
        loop._pulled.put(micro_batch._Pull(SUBSCRIPTION, [micro_batch.PullResponse.pb()().received_messages.add()], 0))

    pulled()
    started = time.monotonic()
    assert loop._next_batch().count == 1
    assert 1 <= time.monotonic() - started < 2.5
    over = threading.Event()

    def stream() -> None:
        while not over.wait(0.1):
            pulled()

    publisher = threading.Thread(target=stream)
    publisher.start()
    try:
        assert 10 < loop._next_batch().count < micro_batch.FEW_MESSAGES
    finally:
        over.set()
        publisher.join()
