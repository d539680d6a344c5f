"""The workflow template's row: what a cluster's answer writes out in full is no change; anything else is."""

import copy
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from lunation.deploy.artefacts import Artefact
from lunation.deploy.dataproc import WorkflowTemplate
from lunation.deploy.resource import State
from lunation.settings import ROOT

CLIENTS: Any = None
MACHINE = "https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-a/machineTypes/"
SCOPES = "https://www.googleapis.com/auth/"


@pytest.fixture
def row() -> WorkflowTemplate:
    """The template that is deployed."""
    path = ROOT / "spark" / "template.yaml"
    content = path.read_text()
    values = {name: name.lower() for name in re.findall(r"\$\{(\w+)\}", content)}
    artefact = Artefact(path, "spark/template.yaml", hashlib.sha256(content.encode()).hexdigest())
    return WorkflowTemplate("lunation-train", artefact, lambda _: values)


def config(state: State) -> Any:
    """Of the cluster."""
    return state["placement"]["managed_cluster"]["config"]


def _in_full(told: State) -> None:
    """As the answers of a cluster have it."""
    told |= {"name": "projects/p/regions/r/workflowTemplates/lunation-train", "version": 3, "create_time": "2026-11-30"}
    config(told)["master_config"]["machine_type_uri"] = f"{MACHINE}n2-standard-4"
    config(told)["gce_cluster_config"]["service_account_scopes"] += [f"{SCOPES}logging.write"]
    config(told)["gce_cluster_config"]["zone_uri"] = "us-central1-a"
    config(told)["software_config"]["image_version"] = "2.3.14-debian12"


def _another_machine(told: State) -> None:
    config(told)["master_config"]["machine_type_uri"] = f"{MACHINE}n2-highmem-4"


def _fewer_scopes(told: State) -> None:
    config(told)["gce_cluster_config"]["service_account_scopes"] = [f"{SCOPES}logging.write"]


def _another_image(told: State) -> None:
    config(told)["software_config"]["image_version"] = "2.30.1-debian12"


def _another_driver(told: State) -> None:
    told["jobs"][1]["pyspark_job"]["main_python_file_uri"] = "gs://elsewhere/train.py"


@pytest.mark.parametrize(
    ("changed", "paths"),
    [
        (_in_full, []),
        (_another_machine, ["placement.managed_cluster.config.master_config.machine_type_uri"]),
        (_fewer_scopes, ["placement.managed_cluster.config.gce_cluster_config.service_account_scopes"]),
        (_another_image, ["placement.managed_cluster.config.software_config.image_version"]),
        (_another_driver, ["jobs[1].pyspark_job.main_python_file_uri"]),
    ],
)
def test_a_change_is_what_would_run_otherwise(
    row: WorkflowTemplate, changed: Callable[[State], None], paths: list[str]
) -> None:
    """A full name of the same is none."""
    told = copy.deepcopy(row.desired(CLIENTS))
    changed(told)
    assert [path for path, _, _ in row.differences(CLIENTS, told)] == paths
