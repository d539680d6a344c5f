"""The Dataproc workflow template."""

import string
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from google.cloud.dataproc_v1 import types
from google.protobuf import json_format

from lunation.clients import Clients
from lunation.deploy.artefacts import Artefact
from lunation.deploy.resource import SYSTEM, Resource, State, if_found, state_of


class WorkflowTemplate(Resource):
    """A workflow template from a YAML file with ``${NAME}`` placeholders.

    Args:
        name: the template's id.
        source: the YAML, in the form that ``gcloud dataproc workflow-templates import`` reads.
        values: for the placeholders, some of which are addresses.
    """

    kind = "workflow-template"
    about = "the Spark jobs of a training, and the cluster that exists only for them"
    service = "dataproc"
    api = "dataproc.googleapis.com"
    managed_with = "roles/dataproc.editor"
    needed_by_none = True

    def __init__(self, name: str, source: Artefact, values: Callable[[Clients], dict[str, str]]) -> None:
        super().__init__(name)
        self._source = source
        self._values = values

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/regions/{clients.target.region}/workflowTemplates/{self.name}"

    def desired(self, clients: Clients) -> State:
        """The template, parsed by the API's own message type.

        Raises:
            ValueError: a placeholder without a value, or a field that the API does not know.
        """
        return state_of(self._message(clients))

    def differences(self, clients: Clients, actual: State) -> list[tuple[str, Any, Any]]:
        """What is not as declared.

        Nothing that is declared is left out: the service was recorded to keep what it is sent, and to add an id, a
        name, a version and times (https://github.com/GoogleCloudPlatform/k8s-config-connector, _http.log of
        dataprocworkflowtemplate). What it writes out in full for a cluster, should it do so for a template, too, is
        the same.
        """
        return [one for one in super().differences(clients, actual) if not _same(*one)]

    def read(self, clients: Clients) -> State | None:
        """As it is."""
        found = if_found(lambda: clients.workflow_templates.get_workflow_template(name=self._path(clients)))
        return None if found is None else state_of(found)

    def summary(self, clients: Clients) -> str:
        """Its jobs, and the machine that runs them."""
        wanted = self.desired(clients)
        config = wanted["placement"]["managed_cluster"]["config"]
        steps = ", ".join(job["step_id"] for job in wanted["jobs"])
        machine, image = config["master_config"]["machine_type_uri"], config["software_config"]["image_version"]
        return f"{steps} on {machine}, image {image}"

    def create(self, clients: Clients) -> None:
        """Create it."""
        message = self._message(clients)
        message.id = self.name
        parent = f"projects/{clients.project}/regions/{clients.target.region}"
        clients.workflow_templates.create_workflow_template(
            parent=parent, template=types.WorkflowTemplate.wrap(message)
        )

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Replace it. The service wants the version that is there, so a change in between is noticed."""
        current = clients.workflow_templates.get_workflow_template(name=self._path(clients))
        message = self._message(clients)
        message.id, message.name, message.version = self.name, self._path(clients), current.version
        clients.workflow_templates.update_workflow_template(template=types.WorkflowTemplate.wrap(message))

    def delete(self, clients: Clients) -> None:
        """Delete it."""
        clients.workflow_templates.delete_workflow_template(name=self._path(clients))

    @classmethod
    def ours(cls, clients: Clients) -> Iterator[Resource]:
        """The templates with our label."""
        parent = f"projects/{clients.project}/regions/{clients.target.region}"
        for found in clients.workflow_templates.list_workflow_templates(parent=parent):
            if found.labels.get("system") == SYSTEM["system"]:
                yield cls.named(found.id)

    def _message(self, clients: Clients) -> Any:
        try:
            document = yaml.safe_load(string.Template(self._source.path.read_text()).substitute(self._values(clients)))
        except KeyError as error:
            raise ValueError(f"{self._source.path.name}: no value for the placeholder {error}") from error
        document.pop("id", None)
        document.pop("name", None)
        document["labels"] = {**document.get("labels", {}), "source": self._source.label}
        try:
            return json_format.ParseDict(document, types.WorkflowTemplate.pb()())
        except json_format.ParseError as error:
            raise ValueError(f"{self._source.path.name}: {error}") from error


def _same(path: str, found: Any, wanted: Any) -> bool:
    """Whether ``found`` is what a cluster answers when it was sent ``wanted``."""
    if path.endswith("_uri"):  # of a machine type: the full one; in Terraform's provider, CompareSelfLinkOrResourceName
        return isinstance(found, str) and found.endswith(f"/{wanted}")
    if path.endswith(".service_account_scopes"):  # https://github.com/hashicorp/terraform/issues/24773
        return isinstance(found, list) and set(wanted) <= set(found)
    if path.endswith(".image_version"):  # https://github.com/hashicorp/terraform-provider-google/issues/4065
        version, _, system = wanted.partition("-")
        return isinstance(found, str) and found.startswith(f"{version}.") and found.endswith(f"-{system}")
    return False
