"""Traffic for a deployed system: messages through Pub/Sub, and requests that watch a model take over."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from google.cloud import pubsub_v1  # type: ignore[attr-defined]

Document = dict[str, Any]


def publish(client: pubsub_v1.PublisherClient, topic: str, messages: Sequence[bytes]) -> list[str]:
    """Publish and wait until every message is taken; answers their ids in order.

    A message without data needs an attribute: Pub/Sub refuses one that has neither.
    """
    futures = [client.publish(topic, message, **({} if message else {"empty": "yes"})) for message in messages]
    return [future.result(timeout=60) for future in futures]


def as_messages(documents: Iterable[Document]) -> list[bytes]:
    """Documents as a publisher sends them."""
    return [json.dumps(document, separators=(",", ":")).encode() for document in documents]


class Trickle:
    """Publishes documents one after the other at a steady pace, in a thread, until it is stopped or has no more.

    Args:
        per_second: the pace.
    """

    def __init__(
        self, client: pubsub_v1.PublisherClient, topic: str, documents: Sequence[Document], per_second: float
    ) -> None:
        self.published: list[Document] = []
        self._client = client
        self._topic = topic
        self._documents = documents
        self._pause = 1 / per_second
        self._stopped = threading.Event()
        self.failure: Exception | None = None
        """Why it ended before its time; raised at the end of the traffic."""
        self._thread = threading.Thread(target=self._run, name="trickle")

    def __enter__(self) -> "Trickle":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            for document in self._documents:
                if self._stopped.wait(self._pause):
                    return
                publish(self._client, self._topic, as_messages([document]))
                self.published.append(document)
        except Exception as error:  # re-raised where the traffic is stopped
            self.failure = error


@dataclass(frozen=True)
class Answer:
    """One answer of the HTTP entry point.

    Args:
        started: when the request was sent, seconds of the epoch.
        seconds: how long it took.
        generation: of the model that answered; None if it failed.
        error: why it failed.
    """

    started: float
    seconds: float
    generation: int | None
    error: str | None = None


class Watch:
    """Callers that ask the HTTP entry point again and again, and note which generation answered when.

    Args:
        url: of ``POST /v1/classify``; plain HTTP to a server that keeps connections, as on loopback.
        token: gives the caller's id token.
        documents: records to ask about, in turn.
        callers: how many at once.
    """

    def __init__(self, url: str, token: Callable[[], str], documents: Sequence[Document], callers: int = 2) -> None:
        self._url = urlsplit(url)
        if self._url.scheme != "http":
            raise ValueError(
                f"{url}: callers ask by plain HTTP, which sends their token in the clear; on loopback only"
            )
        self._token = token
        self._documents = documents
        self._callers = callers
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(callers)
        self._runs: list[Future[list[Answer]]] = []

    def __enter__(self) -> "Watch":
        self._runs = [self._pool.submit(self._ask, number) for number in range(self._callers)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown()

    def stop(self) -> list[Answer]:
        """End the callers; answers what each request got, in order of their start."""
        self._stopped.set()
        answers = [answer for run in self._runs for answer in run.result()]
        return sorted(answers, key=lambda answer: answer.started)

    def _ask(self, number: int) -> list[Answer]:
        answers: list[Answer] = []
        # Not by requests, which takes 0.8 ms of a core more for each, and Spark wants the cores.
        connection = http.client.HTTPConnection(self._url.netloc, timeout=30)
        with contextlib.closing(connection):
            while not self._stopped.is_set():
                document = self._documents[(number * 7919 + len(answers)) % len(self._documents)]
                answers.append(self._once(connection, document))
                self._stopped.wait(0.1)  # a caller, not a load test
        return answers

    def _once(self, connection: http.client.HTTPConnection, document: Document) -> Answer:
        started = time.time()
        clock = time.perf_counter()
        try:
            headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
            connection.request("POST", self._url.path, json.dumps(document).encode(), headers)
            response = connection.getresponse()
            body = response.read()
            seconds = time.perf_counter() - clock
            if response.status != 200:
                return Answer(started, seconds, None, f"HTTP {response.status}: {body[:200].decode(errors='replace')}")
            return Answer(started, seconds, int(json.loads(body)["generation"]))
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            connection.close()  # the next request opens it anew
            return Answer(started, time.perf_counter() - clock, None, f"{type(error).__name__}: {error}")
