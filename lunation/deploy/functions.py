"""Cloud Functions, 2nd generation."""

from collections.abc import Callable, Iterator
from typing import Any

from google.cloud.functions_v2 import types

from lunation.clients import Clients
from lunation.deploy.resource import SYSTEM, Resource, State, if_found, message_of, state_of
from lunation.deploy.staging import Artefact
from lunation.settings import FunctionSize


class Function(Resource):
    """A function from a staged zip. Who may invoke it is a row of its own (:mod:`lunation.deploy.access`).

    Args:
        name: its name in the project.
        entry_point: the Python function in ``main.py``.
        source: the staged zip.
        bucket: where the zip lies.
        size: what it may use.
        service_account: what it runs as.
        build_account: what builds it.
        repository: full name of the Artifact Registry repository that takes its image.
        environment: gives its variables.
        internal: only Google's own services (Pub/Sub) and the project's networks reach it.
    """

    kind = "function"
    about = "code that answers a push or a request"
    service = "functions"
    api = "cloudfunctions.googleapis.com"
    managed_with = "roles/cloudfunctions.developer"
    exact = frozenset({"service_config.environment_variables"})

    def __init__(
        self,
        name: str,
        *,
        entry_point: str,
        source: Artefact,
        bucket: str,
        size: FunctionSize,
        service_account: str,
        build_account: str,
        repository: str,
        environment: Callable[[Clients], dict[str, str]],
        internal: bool = True,
    ) -> None:
        super().__init__(name)
        self._entry_point = entry_point
        self._source = source
        self._bucket = bucket
        self.size = size
        self._service_account = service_account
        self._environment = environment
        self._build_account = build_account
        self._repository = repository
        self._internal = internal

    def path(self, clients: Clients) -> str:
        """Full resource name."""
        return f"{clients.location}/functions/{self.name}"

    def url(self, clients: Clients) -> str | None:
        """Where it is invoked; None if it is not there yet."""
        found = if_found(lambda: clients.functions.get_function(name=self.path(clients)))
        return None if found is None else found.service_config.uri or None

    def desired(self, clients: Clients) -> State:
        """All that is declared."""
        return {
            "build_config": {
                "runtime": "python311",
                "entry_point": self._entry_point,
                "source": {"storage_source": {"bucket": self._bucket, "object_": self._source.object_name}},
                "service_account": f"projects/{clients.project}/serviceAccounts/{self._build_account}",
                "docker_repository": self._repository,
            },
            "service_config": {
                "available_memory": self.size.memory,
                "available_cpu": self.size.cpu,
                "min_instance_count": self.size.min_instances,
                "max_instance_count": self.size.max_instances,
                "max_instance_request_concurrency": self.size.concurrency,
                "timeout_seconds": self.size.timeout_seconds,
                "ingress_settings": "ALLOW_INTERNAL_ONLY" if self._internal else "ALLOW_ALL",
                "service_account_email": self._service_account,
                "environment_variables": self._environment(clients),
            },
            "labels": {**SYSTEM, "source": self._source.label},
        }

    def summary(self, clients: Clients) -> str:
        """What it runs, as whom, and how much of it."""
        size = self.size
        return (
            f"{self._entry_point} of {self._source.object_name} as {self._service_account}, {size.cpu} CPU, "
            f"{size.memory}, {size.min_instances} to {size.max_instances} instances"
        )

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.functions.get_function(name=self.path(clients)))
        return None if found is None else state_of(found)

    def create(self, clients: Clients) -> None:
        """Deploy it and wait until it serves."""
        request = {"parent": clients.location, "function_id": self.name, "function": self._message(clients)}
        clients.functions.create_function(request=request).result(timeout=600)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Deploy a new revision and wait until it serves."""
        request = {"function": self._message(clients), "update_mask": {"paths": changed}}
        clients.functions.update_function(request=request).result(timeout=600)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.functions.delete_function(name=self.path(clients)).result(timeout=600)

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The functions with our label."""
        for found in clients.functions.list_functions(parent=clients.location):
            if found.labels.get("system") == SYSTEM["system"]:
                yield cls.named(found.name.rsplit("/", 1)[1])

    def _message(self, clients: Clients) -> Any:
        return message_of(types.Function, {"name": self.path(clients), "environment": "GEN_2", **self.desired(clients)})
