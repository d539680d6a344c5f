"""The traffic notes what callers saw and hides no failure of its own."""

import json
from collections.abc import Callable

import pytest
from google.api_core.exceptions import NotFound

from demo.traffic import Answer, Trickle, Watch, publish
from tests.pubsub_support import Clients, endpoint
from tests.support import ServerProcess, eventually

DOCUMENTS = [{"record_id": "r1"}, {"record_id": "r2"}]


def seen(url: str) -> list[Answer]:
    """What a watch notes of some requests."""
    asked: list[None] = []

    def token() -> str:
        asked.append(None)
        return "token"

    with Watch(url, token, DOCUMENTS, callers=2) as watch:
        eventually(lambda: len(asked) > 2)  # so one of the two has its first answer
        return watch.stop()


def test_a_request_that_no_model_answered_is_an_error() -> None:
    """A refusal, an answer that is none, and no answer at all: each is counted, with its cause."""
    with endpoint(lambda _: 503) as server:
        answers = seen(server.url)
        assert server.pushes[0].headers["authorization"] == "Bearer token"
    assert {(answer.generation, answer.error) for answer in answers} == {(None, "HTTP 503: ")}
    with endpoint(lambda _: 200) as server:
        answers = seen(server.url)
    assert answers
    assert all(answer.generation is None and "JSON" in (answer.error or "") for answer in answers)
    answers = seen(server.url)  # gone
    assert answers
    assert all(answer.generation is None and "Connection" in (answer.error or "") for answer in answers)


def test_a_publisher_that_fails_is_not_passed_over(serve: Callable[..., ServerProcess]) -> None:
    """What was not taken is not counted as published, and the traffic's end raises why."""
    clients = Clients(serve("pubsub").grpc)
    topic = clients.topic()
    subscription = clients.subscription(topic)
    with Trickle(clients.publisher, topic, DOCUMENTS, per_second=100) as trickle:
        eventually(lambda: len(trickle.published) == 2)
    assert [json.loads(data) for data in clients.drain(subscription)] == trickle.published == DOCUMENTS

    gone = "projects/local-dev/topics/gone"
    with pytest.raises(NotFound), Trickle(clients.publisher, gone, DOCUMENTS, per_second=100) as trickle:
        eventually(lambda: trickle.failure is not None)
    assert trickle.published == []
    assert len(publish(clients.publisher, topic, [b"", b"x"])) == 2, "an empty message is one, too"
    clients.close()
