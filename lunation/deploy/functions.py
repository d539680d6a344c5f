"""Cloud Functions, 2nd generation."""

from collections.abc import Callable
from typing import Any

from google.cloud.functions_v2 import types
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import json_format

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State, if_found, state_of
from lunation.deploy.staging import Artefact
from lunation.settings import FunctionSize

INVOKER = "roles/run.invoker"


class Function(Resource):
    """A function from a staged zip, and who may invoke it.

    Args:
        name: its name in the project.
        entry_point: the Python function in ``main.py``.
        source: the staged zip.
        bucket: where the zip lies.
        size: what it may use.
        service_account: what it runs as.
        environment: gives its variables.
        invokers: members with ``roles/run.invoker``.
    """

    kind = "function"

    def __init__(
        self,
        name: str,
        *,
        entry_point: str,
        source: Artefact,
        bucket: str,
        size: FunctionSize,
        service_account: str,
        environment: Callable[[Clients], dict[str, str]],
        invokers: list[str],
    ) -> None:
        super().__init__(name)
        self._entry_point = entry_point
        self._source = source
        self._bucket = bucket
        self._size = size
        self._service_account = service_account
        self._environment = environment
        self._invokers = sorted(invokers)

    def path(self, clients: Clients) -> str:
        """Full resource name."""
        return f"{clients.location}/functions/{self.name}"

    def url(self, clients: Clients) -> str | None:
        """Where it is invoked; None if it is not there yet."""
        found = if_found(lambda: clients.functions.get_function(name=self.path(clients)))
        return None if found is None else found.service_config.uri or None

    def desired(self, clients: Clients) -> State:
        """All that is declared, and the invokers."""
        return {
            "build_config": {
                "runtime": "python311",
                "entry_point": self._entry_point,
                "source": {"storage_source": {"bucket": self._bucket, "object_": self._source.object_name}},
            },
            "service_config": {
                "available_memory": self._size.memory,
                "available_cpu": self._size.cpu,
                "max_instance_count": self._size.max_instances,
                "max_instance_request_concurrency": self._size.concurrency,
                "timeout_seconds": 60,
                "service_account_email": self._service_account,
                "environment_variables": self._environment(clients),
            },
            "labels": {"system": "lunation", "source": self._source.label},
            "invokers": self._invokers,
        }

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.functions.get_function(name=self.path(clients)))
        if found is None:
            return None
        policy = clients.functions.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=self.path(clients)))
        members = sorted(member for binding in policy.bindings if binding.role == INVOKER for member in binding.members)
        return {**state_of(found), "invokers": members}

    def create(self, clients: Clients) -> None:
        """Deploy it and wait until it serves."""
        request = {"parent": clients.location, "function_id": self.name, "function": self._message(clients)}
        clients.functions.create_function(request=request).result(timeout=600)
        self._set_invokers(clients)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Deploy a new revision and wait until it serves; set the invokers."""
        fields = [field for field in changed if field != "invokers"]
        if fields:
            request = {"function": self._message(clients), "update_mask": {"paths": fields}}
            clients.functions.update_function(request=request).result(timeout=600)
        if "invokers" in changed:
            self._set_invokers(clients)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.functions.delete_function(name=self.path(clients)).result(timeout=600)

    def _message(self, clients: Clients) -> Any:
        declared = {key: value for key, value in self.desired(clients).items() if key != "invokers"}
        plain = json_format.ParseDict(
            {"name": self.path(clients), "environment": "GEN_2", **declared}, types.Function.pb()()
        )
        return types.Function.wrap(plain)

    def _set_invokers(self, clients: Clients) -> None:
        policy = clients.functions.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=self.path(clients)))
        others = [binding for binding in policy.bindings if binding.role != INVOKER]
        updated = policy_pb2.Policy(
            etag=policy.etag, bindings=[*others, policy_pb2.Binding(role=INVOKER, members=self._invokers)]
        )
        clients.functions.set_iam_policy(
            iam_policy_pb2.SetIamPolicyRequest(resource=self.path(clients), policy=updated)
        )
