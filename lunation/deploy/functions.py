"""Cloud Functions, 2nd generation."""

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from google.cloud.functions_v2 import types

from lunation.clients import Clients
from lunation.deploy.artefacts import Artefact
from lunation.deploy.resource import SYSTEM, Resource, State, if_found, message_of, state_of
from lunation.deploy.settling import UNDER_WAY, NotYetError
from lunation.settings import FunctionSize

DEPLOYED = ("build_config", "service_config", "labels")
"""All that a deployment sends."""
PASSING = ("DEPLOYING", "DELETING")
"""States that pass by themselves. An update of a function in one of them is refused with 409."""
_UNITS = {"": "1", "m": "0.001", "k": "1E3", "M": "1E6", "G": "1E9", "Ki": "1024", "Mi": "1048576", "Gi": "1073741824"}


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
    # The service copies the zip, and answers with the copy: bucket gcf-v2-sources-NUMBER-REGION, object
    # NAME/function-source.zip, and its generation (https://github.com/GoogleCloudPlatform/magic-modules, in
    # mmv1/templates/terraform/custom_flatten/cloudfunctions2_function_source_{bucket,object,generation}.go.tmpl, and
    # https://github.com/hashicorp/terraform-provider-google/issues/15405). So what a function was built from, its label
    # alone tells. A source that somebody uploads by hand under the old label cannot be told.
    rewritten = frozenset({"build_config.source"})
    told = frozenset({"state"})

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
            "state": "ACTIVE",
        }

    def differences(self, clients: Clients, actual: State) -> list[tuple[str, Any, Any]]:
        """What is not as declared. A size in another unit is the same size: 1 CPU may come back as ``1000m``."""
        return [one for one in super().differences(clients, actual) if not _same_size(*one)]

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
        clients.functions.create_function(request=request).result(timeout=900)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Deploy a new revision and wait until it serves. A function that could not be deployed is deployed again, with
        all that is declared.

        Raises:
            NotYetError: it is being deployed, or deleted, by a run that was cut off or by somebody else.
        """
        found = self._settled(clients)
        if found is None:
            self.create(clients)
            return
        paths = [path for path, _, _ in self.differences(clients, found)]
        anew = "state" in paths or "labels.source" in paths
        fields = DEPLOYED if anew else tuple(dict.fromkeys(path.partition(".")[0] for path in paths))
        if fields:
            request = {"function": self._message(clients), "update_mask": {"paths": list(fields)}}
            clients.functions.update_function(request=request).result(timeout=900)

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        if self._settled(clients) is not None:
            clients.functions.delete_function(name=self.path(clients)).result(timeout=600)

    def _settled(self, clients: Clients) -> State | None:
        """What it is, with nothing under way; None if it is gone."""
        found = self.read(clients)
        if found is not None and found.get("state") in PASSING:
            raise NotYetError(f"the function is {found['state']}", UNDER_WAY)
        return found

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The functions with our label."""
        for found in clients.functions.list_functions(parent=clients.location):
            if found.labels.get("system") == SYSTEM["system"]:
                yield cls.named(found.name.rsplit("/", 1)[1])

    def _message(self, clients: Clients) -> Any:
        return message_of(types.Function, {"name": self.path(clients), "environment": "GEN_2", **self.sent(clients)})


def _same_size(path: str, one: Any, other: Any) -> bool:
    """Whether two quantities of Kubernetes, in which Cloud Run counts, are the same.

    A function of 0.1666 CPU was seen to come back as ``167m``:
    https://github.com/GoogleCloudPlatform/terraformer/pull/1755
    """
    sized = path in ("service_config.available_cpu", "service_config.available_memory")
    return sized and (size := _size(one)) is not None and size == _size(other)


def _size(quantity: Any) -> Decimal | None:
    text = str(quantity)
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = _UNITS.get(text[len(number) :])
    try:
        return None if unit is None else Decimal(number) * Decimal(unit)
    except InvalidOperation:
        return None
