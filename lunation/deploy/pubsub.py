"""Topics and subscriptions."""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import json_format
from google.pubsub_v1 import types

from lunation.clients import Clients
from lunation.deploy.resource import SYSTEM, UNKNOWN, Resource, State, if_found, state_of


class Topic(Resource):
    """A topic. One that takes nothing in from elsewhere, as ours, is answered without a state
    (https://github.com/GoogleCloudPlatform/k8s-config-connector/blob/master/mockgcp/mockpubsub/testdata/topic/crud/_http.log).
    """

    kind = "topic"
    about = "where messages are published"
    service = "pubsub"
    api = "pubsub.googleapis.com"
    managed_with = "roles/pubsub.admin"

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/topics/{self.name}"

    def desired(self, clients: Clients) -> State:
        """Its labels."""
        return {"labels": SYSTEM}

    def summary(self, clients: Clients) -> str:
        """Nothing more to say than its name."""
        return f"labelled {_labels(SYSTEM)}"

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        topic = if_found(lambda: clients.publisher.get_topic(topic=self._path(clients)))
        return None if topic is None else state_of(topic)

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.publisher.create_topic(request={"name": self._path(clients), **self.desired(clients)})

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set its labels."""
        clients.publisher.update_topic(
            request={
                "topic": {"name": self._path(clients), **self.desired(clients)},
                "update_mask": {"paths": changed},
            }
        )

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.publisher.delete_topic(topic=self._path(clients))

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The topics with our label."""
        for topic in clients.publisher.list_topics(project=f"projects/{clients.project}"):
            if topic.labels.get("system") == SYSTEM["system"]:
                yield cls.named(topic.name.rsplit("/", 1)[1])


class Subscription(Resource):
    """A subscription that keeps its messages for seven days and never expires.

    A push that is not answered is made again for all these days, at longer and longer intervals. Pub/Sub itself takes
    nothing out of it (docs/decisions/0015-no-forwarding.md).

    Args:
        name: its short name.
        topic: the topic's short name.
        push_to: gives the URL to push to, or None while that is not known. No argument: a pull subscription.
        push_as: the service account whose token a push carries.
    """

    kind = "subscription"
    about = "who gets a topic's messages, at least once, for up to seven days"
    service = "pubsub"
    api = "pubsub.googleapis.com"
    managed_with = "roles/pubsub.admin"
    fixed = frozenset({"topic", "detached"})
    exact = frozenset({"dead_letter_policy", "expiration_policy"})
    told = frozenset({"detached", "state"})
    holds = "the messages that wait in it"

    def __init__(
        self,
        name: str,
        topic: str,
        *,
        push_to: Callable[[Clients], str | None] | None = None,
        push_as: str | None = None,
        ack_seconds: int = 60,
    ) -> None:
        super().__init__(name)
        self.topic = topic
        self._push_to = push_to
        self._push_as = push_as
        self._ack_seconds = ack_seconds

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/subscriptions/{self.name}"

    def desired(self, clients: Clients) -> State:
        """All that is declared."""
        wanted: dict[str, Any] = {
            "topic": f"projects/{clients.project}/topics/{self.topic}",
            "ack_deadline_seconds": self._ack_seconds,
            "message_retention_duration": "604800s",
            # None: otherwise one that nobody reads goes after 31 days.
            "expiration_policy": {},
            "push_config": {"push_endpoint": ""},
            "labels": SYSTEM,
            "dead_letter_policy": {},  # none
            # Detached, it gets nothing, and cannot be attached again.
            "detached": False,
            "state": "ACTIVE",
        }
        if self._push_to is not None:
            url = self._push_to(clients) or UNKNOWN
            wanted["push_config"] = {
                "push_endpoint": url,
                "oidc_token": {"service_account_email": self._push_as, "audience": url},
            }
            wanted["retry_policy"] = {"minimum_backoff": "1s", "maximum_backoff": "600s"}
        return wanted

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.subscriber.get_subscription(subscription=self._path(clients)))
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Create it."""
        clients.subscriber.create_subscription(request=types.Subscription.wrap(self._message(clients)))

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Set the fields that changed; all of them, if Pub/Sub says that it cannot deliver.

        Raises:
            RuntimeError: it still says so.
        """
        unwell = "state" in changed
        fields = [field for field in self.sent(clients) if field not in self.fixed] if unwell else changed
        request = {"subscription": types.Subscription.wrap(self._message(clients)), "update_mask": {"paths": fields}}
        state = types.Subscription.State(clients.subscriber.update_subscription(request=request).state)
        if unwell and state == types.Subscription.State.RESOURCE_ERROR:
            raise RuntimeError(
                f"Pub/Sub says {state.name}: it cannot deliver to where the subscription points. Look at it: gcloud "
                f"pubsub subscriptions describe {self.name} --project={clients.project}"
            )

    def delete(self, clients: Clients) -> None:
        """Delete it with what is in it."""
        clients.subscriber.delete_subscription(subscription=self._path(clients))

    def summary(self, clients: Clients) -> str:
        """Who gets what."""
        how = "pull" if self._push_to is None else f"push to {self._push_to(clients) or UNKNOWN} as {self._push_as}"
        return f"{self.topic}, {how}"

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The subscriptions with our label."""
        for found in clients.subscriber.list_subscriptions(project=f"projects/{clients.project}"):
            if found.labels.get("system") == SYSTEM["system"]:
                yield cls.named(found.name.rsplit("/", 1)[1])

    def _message(self, clients: Clients) -> Any:
        # An empty expiration policy says never; an empty dead-letter policy would be one without a topic.
        wanted = {field: value for field, value in self.sent(clients).items() if value != {}}
        message = json_format.ParseDict({"name": self._path(clients), **wanted}, types.Subscription.pb()())
        message.expiration_policy.SetInParent()
        return message


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
