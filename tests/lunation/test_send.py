"""``send``: each line of a file is one message, through a running Pub/Sub server."""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from google.api_core.exceptions import NotFound
from typer.testing import CliRunner

from laptop.supervisor import Supervisor
from lunation import send
from lunation.cli import app
from lunation.clients import Clients
from lunation.settings import load
from schemas import use_case
from tests.functions.doubles import models
from tests.support import ROOT, eventually

PROJECT = "projects/local-dev"


class Publisher:
    """A person with a file, and who reads what comes of it."""

    def __init__(self, clients: Clients, variables: dict[str, str]) -> None:
        self.clients = clients
        self.variables = variables

    def send(self, *arguments: str, code: int = 0, given: bytes | None = None) -> Result:
        """The command."""
        result = CliRunner().invoke(app, ["send", *arguments], env=self.variables, input=given, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    def received(self, topic: str = "records") -> list[tuple[bytes, str]]:
        """What has come since the last time, with the id that it carries."""
        found = []
        pull = {"subscription": f"{PROJECT}/subscriptions/{topic}", "max_messages": 1000, "return_immediately": True}
        while messages := self.clients.subscriber.pull(request=pull).received_messages:
            self.clients.subscriber.acknowledge(
                subscription=str(pull["subscription"]), ack_ids=[one.ack_id for one in messages]
            )
            found += [(one.message.data, one.message.attributes.get("record_id", "")) for one in messages]
        return sorted(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """A Pub/Sub server with the two topics."""
    state = tmp_path_factory.mktemp("send") / "state"
    with pytest.MonkeyPatch.context() as patch, Supervisor(state, ["pubsub"]) as running:
        patch.setenv("PUBSUB_EMULATOR_HOST", "")  # the clients set it; it is put back afterwards
        running.wait_ready()
        endpoints = state / "endpoints.json"
        clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        for topic in ("records", "labels"):
            clients.publisher.create_topic(name=f"{PROJECT}/topics/{topic}")
            clients.subscriber.create_subscription(
                name=f"{PROJECT}/subscriptions/{topic}", topic=f"{PROJECT}/topics/{topic}"
            )
        yield Publisher(
            clients, {"LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints), "COLUMNS": "80", "TERM": "dumb"}
        )
        clients.subscriber.close()


@pytest.fixture
def publisher(server: Publisher) -> Publisher:
    """With nothing waiting."""
    for topic in ("records", "labels"):
        server.received(topic)
    return server


def record(name: str) -> bytes:
    """As its publisher wrote it, with a field that nobody knows."""
    return json.dumps({**models.record(name), "unknown": 1}, separators=(", ", " : ")).encode()


def label(name: str) -> bytes:
    return json.dumps({"record_id": name, "label": "late", "event_time": "2013-03-01T12:00:00Z"}).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_each_line_is_a_message_byte_for_byte(publisher: Publisher, tmp_path: Path, packed: bool) -> None:
    """With its record's id as the attribute; a byte order mark, empty lines, ends of lines as on Windows, and a last
    line without one are none of them; gzip is known by how it begins, whatever the file is called."""
    content = b"\xef\xbb\xbf" + record("a") + b"\r\n\n  \n" + record("b") + b"\n" + record("c")
    (file := tmp_path / "any").write_bytes(gzip.compress(content) if packed else content)
    done = publisher.send(str(file))
    assert done.stdout == "Read 3 lines: 3 sent to topic records.\n"
    assert publisher.received() == [(record(name), name) for name in "abc"]
    assert publisher.received("labels") == []
    publisher.send("-", given=gzip.compress(content) if packed else content)
    assert publisher.received() == [(record(name), name) for name in "abc"]


def test_labels_go_to_their_topic(publisher: Publisher) -> None:
    """Read as labels: a record is none."""
    done = publisher.send("-", "--labels", given=label("a") + b"\n" + record("b"), code=2)
    assert "line 2: label: Field required" in done.stderr
    assert publisher.received("labels") == [(label("a"), "a")]
    assert publisher.received() == []


def test_what_does_not_fit_is_told_by_its_line_and_not_sent(publisher: Publisher) -> None:
    """The number counts every line; the others are sent, and the exit code says that some were not."""
    lines = [record("a"), b"", b"no JSON", b'{"record_id": "x"}', b'{"a": "\x1b[31m"}', record("b")]
    done = publisher.send("-", given=b"\n".join(lines), code=2)
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["line 3", "line 4", "line 5"]
    assert "event_time: Field required; features: Field required" in told[1]
    assert done.stdout == "Read 5 lines: 2 sent to topic records, 3 did not fit and were not sent.\n"
    assert publisher.received() == [(record("a"), "a"), (record("b"), "b")]


def test_as_it_is_all_is_sent_and_still_told(publisher: Publisher) -> None:
    """What is no record carries no id."""
    done = publisher.send("-", "--as-is", given=b"no JSON\n" + record("a"))
    assert "line 1: " in done.stderr
    assert done.stdout == "Read 2 lines: 2 sent to topic records, 1 of them did not fit.\n"
    assert publisher.received() == [(b"no JSON", ""), (record("a"), "a")]


def test_many_that_do_not_fit_are_counted(publisher: Publisher) -> None:
    """The first are told; one document over several lines is met with how to put it on one."""
    done = publisher.send("-", given=b"{\n" * 200, code=2)
    assert sum(line.startswith("line ") for line in done.stderr.splitlines()) == 50
    assert "jq -c . - | lunation send -" in done.stderr
    assert "200 did not fit" in done.stdout


def test_a_line_that_is_no_message_is_not_sent(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pub/Sub's limit is told, and the line is never held as a whole; the next one is the next."""
    monkeypatch.setattr(send, "MAX_MESSAGE_BYTES", 2000)
    monkeypatch.setattr(send, "AROUND_BYTES", 0)
    huge = record("a")[:-1] + b', "x": "' + b"x" * 5_000_000 + b'"}'
    done = publisher.send("-", given=huge + b"\n" + record("b"), code=2)
    assert f"line 1: {len(huge):,} bytes; a message of Pub/Sub has at most 2,000" in done.stderr
    assert publisher.received() == [(record("b"), "b")]
    (kept,) = send.lines(BytesIO(huge), "x")
    assert (len(kept.data), kept.size) == (2002, len(huge))
    assert publisher.send("-", "--as-is", given=huge, code=2).stdout.startswith("Read 1 lines: 0 sent")


def test_the_largest_line_that_is_sent_is_taken(publisher: Publisher) -> None:
    """What surrounds a document in its request counts, too: one line more is refused, and ends nothing."""
    room = send.MAX_MESSAGE_BYTES - send.AROUND_BYTES
    around = record("a" * 128)[:-1] + b', "x": "', b'"}'
    largest = around[0] + b"x" * (room - sum(map(len, around))) + around[1]
    beyond = [largest + b"x" * extra for extra in (1, 400, 900)]
    done = publisher.send("-", "--as-is", given=b"\n".join([largest, *beyond, record("b")]), code=2)
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["line 1", "line 2", "line 3", "line 4"]
    assert "2 sent to topic records, 1 of them did not fit, 3 did not fit and were not sent" in done.stdout
    # Google's client takes 4 MiB: what is there is left unread.
    publisher.clients.subscriber.seek(
        request={"subscription": f"{PROJECT}/subscriptions/records", "time": datetime.now(UTC)}
    )
    assert publisher.received() == []


def test_a_line_of_white_space_and_more_is_cut_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind more of it than a message has: it is a line that is too large, not a part of one, nor none."""
    monkeypatch.setattr(send, "MAX_MESSAGE_BYTES", 100)
    for before in (50, 200):
        content = b" " * before + b'{"a": "' + b"x" * 90 + b'"}'
        (line,) = send.lines(BytesIO(content + b"\n\n"), "x")
        assert line.size > send.MAX_MESSAGE_BYTES, (line, len(content))


def test_a_pipe_with_a_name_is_a_file(publisher: Publisher, tmp_path: Path) -> None:
    """As a shell makes one of `<(zcat records.json.gz)`: nobody knows how far it is, and all of it is sent."""
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_bytes, args=(record("a") + b"\n" + record("b"),))
    writer.start()
    assert publisher.send(str(pipe)).stdout == "Read 2 lines: 2 sent to topic records.\n"
    writer.join()
    assert publisher.received() == [(record("a"), "a"), (record("b"), "b")]


class Late(Future[str]):
    """A message whose callers hear of it some time after it is done: Google's client tells them in its own thread."""

    def add_done_callback(self, told: Callable[["Future[str]"], Any]) -> None:
        def tell(message: Future[str]) -> None:
            threading.Timer(0.2, told, [message]).start()

        super().add_done_callback(tell)


@pytest.mark.parametrize("failure", [None, NotFound("no such topic")])
def test_the_last_message_counts(failure: Exception | None) -> None:
    """Confirmed or refused, it is known when all is said to be sent."""
    message, sent = Late(), send.Sent()
    if failure is None:
        message.set_result("1")
    else:
        message.set_exception(failure)
    clients = SimpleNamespace(project="p", publisher=SimpleNamespace(publish=lambda *_, **__: message))
    line = send.Line(1, record("a"), 1)

    def publish() -> None:
        send.send(clients, use_case("flights"), "records", [line], sent, refuse=lambda *_: None)  # type: ignore[arg-type]

    if failure is None:
        publish()
    else:
        with pytest.raises(NotFound):
            publish()
    assert (sent.confirmed, sent.failure) == (failure is None, failure)


def test_a_broken_file_is_told_with_what_was_sent(publisher: Publisher, tmp_path: Path) -> None:
    """One line, with where it broke; what came before is there."""
    lines = [record(f"r{number:04}") for number in range(2000)]
    (file := tmp_path / "cut.gz").write_bytes(gzip.compress(b"\n".join(lines))[:-500])
    done = publisher.send(str(file), code=1)
    assert f"error: {file} is no whole gzip file: behind line " in done.stderr.replace("\n", "")
    received = publisher.received()
    assert f"{len(received):,} sent to topic records" in done.stderr
    assert received == [(line, f"r{number:04}") for number, line in enumerate(lines[: len(received)])]


@pytest.mark.parametrize(
    ("argument", "words"),
    [("nowhere.json", "No such file or directory"), (".", "Is a directory"), ("empty", "no line")],
)
def test_a_file_that_is_none_is_one_line(publisher: Publisher, tmp_path: Path, argument: str, words: str) -> None:
    """Which, and why."""
    (tmp_path / "empty").touch()
    done = publisher.send(str(tmp_path / argument), code=1)
    assert words in done.stderr
    assert done.stderr.startswith("error: ")


def test_the_rate_is_kept(publisher: Publisher) -> None:
    """On the whole, not only between two."""
    begun = time.monotonic()
    publisher.send("-", "--rate", "40", given=b"\n".join(record(f"r{number}") for number in range(21)))
    assert time.monotonic() - begun >= 0.5
    assert len(publisher.received()) == 21


def test_a_topic_that_is_not_there_is_one_line(publisher: Publisher) -> None:
    """Nothing is deployed: it says what to look at, and what was not sent."""
    topic = f"{PROJECT}/topics/labels"
    publisher.clients.publisher.delete_topic(topic=topic)
    try:
        done = publisher.send("-", "--labels", given=label("a"), code=1)
        assert "Is it deployed? `lunation plan`" in done.stderr
        assert "0 sent to topic labels, 1 more not confirmed" in done.stderr
    finally:
        publisher.clients.publisher.create_topic(name=topic)
        with contextlib.suppress(NotFound):
            publisher.clients.subscriber.delete_subscription(subscription=f"{PROJECT}/subscriptions/labels")
        publisher.clients.subscriber.create_subscription(name=f"{PROJECT}/subscriptions/labels", topic=topic)


def test_ctrl_c_says_what_was_sent(publisher: Publisher, tmp_path: Path) -> None:
    """Exit code 130, no stack, and the count is what the topic has."""
    (file := tmp_path / "many").write_bytes(b"\n".join(record(f"r{number}") for number in range(100_000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "lunation", "send", str(file), "--rate", "200"],
        cwd=ROOT,
        env={**os.environ, **publisher.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    arrived: list[Any] = []

    def some() -> bool:
        arrived.extend(publisher.received())
        return bool(arrived)

    eventually(some, 30)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=30)
    arrived.extend(publisher.received())
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in told
    assert f"Interrupted. Read {len(arrived):,} lines: {len(arrived):,} sent to topic records." in told or (
        f"Interrupted. Read {len(arrived) + 1:,} lines: {len(arrived):,} sent to topic records." in told
    )
