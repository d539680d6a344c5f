"""Subscriptions and message schemas as Pub/Sub gives them back, and what it does not take."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.pubsub_v1 import types

from laptop.errors import ServiceError, already_exists, invalid, not_found
from laptop.surface import Rpc
from lunation.deploy.message_schemas import MAX_REVISIONS, MessageSchema
from lunation.deploy.plan import compare
from lunation.deploy.pubsub import Subscription, Topic
from lunation.deploy.settling import NAME_FREE, NotYetError
from schemas import Label
from schemas.shapes import proto_definition
from tests.lunation.google import PROJECT, Google, Rewriting, google
from tests.support import ServerProcess

Change = Callable[[Any], None]


class Schemas:
    """Answers for schemas. A revision is refused while ``refuses``; a name is taken for a while after a deletion."""

    def __init__(self) -> None:
        self.revisions: list[Any] = []
        self.refuses = False
        self.taken = 0
        self._made = 0

    async def answer(self, rpc: Rpc, request: Any) -> Message:
        """Answer one call."""
        if rpc.name == "CreateSchema":
            if self.revisions or self.taken:
                self.taken -= 1
                raise already_exists(request.schema_id)
            return self._revise(f"{request.parent}/schemas/{request.schema_id}", request.schema)
        if not self.revisions:
            raise not_found(request.name)
        match rpc.name:
            case "GetSchema":
                return self.revisions[-1]
            case "ListSchemaRevisions":
                return types.ListSchemaRevisionsResponse.pb()(schemas=reversed(self.revisions))
            case "DeleteSchemaRevision":
                _, _, revision = request.name.partition("@")
                self.revisions = [one for one in self.revisions if one.revision_id != revision]
                return self.revisions[-1]
            case "CommitSchema":
                if len(self.revisions) >= 20:  # https://cloud.google.com/pubsub/docs/commit-schema-revision
                    raise ServiceError("FAILED_PRECONDITION", "a schema has at most 20 revisions")
                # In the words that somebody met: https://exchangetuts.com/index.php/
                # backward-and-forward-compatibility-issues-with-protobufs-in-google-pubsub-1762952703582156
                if self.refuses:
                    raise invalid("Compatibility checking failed to commit a schema revision for (schema=…).")
                return self._revise(request.name, request.schema)
            case "DeleteSchema":
                self.revisions = []
                return rpc.response()
        raise AssertionError(rpc.name)

    def _revise(self, name: str, schema: Any) -> Message:
        revision = types.Schema.pb()()
        revision.CopyFrom(schema)
        self._made += 1
        revision.name, revision.revision_id = name, f"r{self._made}"
        revision.revision_create_time.FromSeconds(1_790_000_000 + self._made)
        self.revisions.append(revision)
        return revision


@pytest.fixture
def schemas() -> Schemas:
    """What answers."""
    return Schemas()


@pytest.fixture
def answers() -> dict[str, Change]:
    """How answers are changed, by method."""
    return {}


@pytest.fixture
def cloud(
    schemas: Schemas,
    answers: dict[str, Change],
    serve: Callable[[str], ServerProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Google]:
    """A project with one topic."""
    server = serve("pubsub")
    laptop = {"pubsub": {"http": server.http, "grpc": server.grpc}}
    judge = Rewriting()
    judge.changes = answers
    with google(tmp_path, monkeypatch, [judge], {"pubsub-schemas": schemas.answer}, laptop) as made:
        Topic("records").create(made.clients)
        yield made


# --- subscriptions


def pushed() -> Subscription:
    """One that pushes."""
    return Subscription(
        "records-classify",
        "records",
        push_to=lambda _: "https://classify-abc-uc.a.run.app",
        push_as=f"lunation-push@{PROJECT}.iam.gserviceaccount.com",
    )


def test_what_pubsub_adds_is_no_change(cloud: Google, answers: dict[str, Change]) -> None:
    """Its version among the push's attributes, and defaults (magic-modules, Subscription.yaml)."""
    for row in (pushed(), Subscription("records-archive", "records")):
        row.create(cloud.clients)

    def rewritten(told: Any) -> None:
        told.state = types.Subscription.State.ACTIVE
        if told.push_config.push_endpoint:
            told.push_config.attributes["x-goog-version"] = "v1"
        told.topic_message_retention_duration.FromSeconds(86400)

    answers["GetSubscription"] = rewritten
    assert compare(pushed(), cloud.clients).action == "unchanged"
    assert compare(Subscription("records-archive", "records"), cloud.clients).action == "unchanged"


def test_a_subscription_that_would_expire_is_a_change(cloud: Google, answers: dict[str, Change]) -> None:
    """Without a policy it goes after 31 days in which nobody reads, with what is in it."""
    row = Subscription("dead-letters-review", "records")
    row.create(cloud.clients)
    answers["GetSubscription"] = lambda told: told.expiration_policy.ttl.FromSeconds(31 * 86400)
    assert compare(row, cloud.clients).fields == [("expiration_policy.ttl", "2678400s", None)]
    row.update(cloud.clients, ["expiration_policy"])
    (request,) = cloud.asked("UpdateSubscription")
    assert request.subscription.HasField("expiration_policy")
    assert not request.subscription.expiration_policy.HasField("ttl")


def test_a_pull_that_somebody_made_a_push_is_a_change(cloud: Google, answers: dict[str, Change]) -> None:
    """The archive would get nothing any more."""
    row = Subscription("records-archive", "records")
    row.create(cloud.clients)
    answers["GetSubscription"] = lambda told: setattr(told.push_config, "push_endpoint", "https://example.com/")
    assert compare(row, cloud.clients).fields == [("push_config.push_endpoint", "https://example.com/", "")]
    del answers["GetSubscription"]
    row.update(cloud.clients, ["push_config"])
    assert compare(row, cloud.clients).action == "unchanged"


def test_a_detached_subscription_is_replaced(cloud: Google, answers: dict[str, Change]) -> None:
    """It cannot be attached again; what waited in it is gone already."""
    pushed().create(cloud.clients)
    answers["GetSubscription"] = lambda told: setattr(told, "detached", True)
    change = compare(pushed(), cloud.clients)
    assert (change.action, change.fields) == ("replace", [("detached", True, False)])


def test_a_subscription_that_cannot_deliver_is_sent_anew_and_told(cloud: Google, answers: dict[str, Change]) -> None:
    """All that is declared is sent, but for its topic and what only Pub/Sub sets."""
    pushed().create(cloud.clients)
    answers["GetSubscription"] = lambda told: setattr(told, "state", types.Subscription.State.RESOURCE_ERROR)
    assert compare(pushed(), cloud.clients).fields == [("state", "RESOURCE_ERROR", "ACTIVE")]
    pushed().update(cloud.clients, ["state"])
    (request,) = cloud.asked("UpdateSubscription")
    assert {"push_config", "retry_policy", "ack_deadline_seconds"} <= set(request.update_mask.paths)
    assert not {"topic", "state", "detached"} & set(request.update_mask.paths)
    assert request.subscription.state == 0
    answers["UpdateSubscription"] = answers["GetSubscription"]
    with pytest.raises(RuntimeError, match=r"says RESOURCE_ERROR: .* gcloud pubsub subscriptions describe"):
        pushed().update(cloud.clients, ["state"])


# --- schemas


def schema(*fields: str) -> MessageSchema:
    """One with these optional fields."""
    lines = [f"  optional string {name} = {number};" for number, name in enumerate(fields, start=1)]
    return MessageSchema("lunation-record", "\n".join(['syntax = "proto3";', "", "message Record {", *lines, "}", ""]))


def test_the_oldest_revision_makes_room(cloud: Google, schemas: Schemas) -> None:
    """A use case may change its fields more often than Pub/Sub keeps revisions."""
    names = ["a"]
    schema(*names).create(cloud.clients)
    for number in range(2 * MAX_REVISIONS):
        names.append(f"b{number}")
        schema(*names).update(cloud.clients, ["definition"])
        assert compare(schema(*names), cloud.clients).action == "unchanged"
    assert len(schemas.revisions) == MAX_REVISIONS
    assert schemas.revisions[0].revision_id == f"r{MAX_REVISIONS + 2}", "the oldest went"
    assert cloud.asked("DeleteSchema") == []


def test_a_change_that_pubsub_does_not_take_makes_the_schema_anew(cloud: Google, schemas: Schemas) -> None:
    """A feature put before others moves their numbers, and another type is another field: no revision may do that."""
    schema("a", "b").create(cloud.clients)
    schemas.refuses = True
    schema("new", "a", "b").update(cloud.clients, ["definition"])
    assert compare(schema("new", "a", "b"), cloud.clients).action == "unchanged"
    assert len(schemas.revisions) == 1


def test_a_name_that_is_still_taken_is_waited_for(cloud: Google, schemas: Schemas) -> None:
    """Pub/Sub knows a schema for a moment after it was deleted; the next run makes it."""
    schema("a").create(cloud.clients)
    schemas.refuses, schemas.taken = True, 1
    with pytest.raises(NotYetError) as told:
        schema("b").update(cloud.clients, ["definition"])
    assert told.value.awaits is NAME_FREE
    assert compare(schema("b"), cloud.clients).action == "create"
    schema("b").create(cloud.clients)
    assert compare(schema("b"), cloud.clients).action == "unchanged"


def test_a_schema_by_which_a_topic_checks_is_not_made_anew(cloud: Google, schemas: Schemas, answers: Any) -> None:
    """Somebody bound it to a topic of theirs, which would refuse every message: they are told how to free it."""
    schema("a").create(cloud.clients)
    schemas.refuses = True
    name = f"projects/{PROJECT}/schemas/lunation-record"
    answers["ListTopics"] = lambda told: setattr(told.topics[0].schema_settings, "schema", name)
    with pytest.raises(ValueError, match=r"topic records checks .*gcloud pubsub topics update records --clear-schema"):
        schema("b").update(cloud.clients, ["definition"])
    assert compare(schema("a"), cloud.clients).action == "unchanged"


def test_the_declared_records_make_schemas(cloud: Google) -> None:
    """What is registered reads back as it was sent."""
    row = MessageSchema("lunation-label", proto_definition(Label, "Label"))
    row.create(cloud.clients)
    assert compare(row, cloud.clients).action == "unchanged"
