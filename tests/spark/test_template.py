"""Promises of the workflow template: the API's own message takes it, and its parameters reach the drivers."""

import re
import string
from pathlib import Path

import pytest
import yaml
from google.cloud.dataproc_v1 import types
from google.protobuf import json_format

from schemas.check_limits import CheckLimits
from spark.fingerprint import PACKAGES, versions
from spark.job import parse

FOLDER = Path(__file__).resolve().parents[2] / "spark"
VALUES = {
    "PROJECT": "acme",
    "REGION": "us-central1",
    "ARCHIVE_BUCKET": "acme-archive",
    "MODELS_BUCKET": "acme-models",
    "BUILD_BUCKET": "acme-build",
    "SPARK_CODE": "gs://acme-build/spark/abc",
    "USE_CASE": "flights",
    "CHECKS": CheckLimits(unseen=0.3).model_dump_json(),
    "EVALUATION_DAYS": "14",
    "INSTANCE_MIB": "1024",
    "SERVICE_ACCOUNT": "lunation-train@acme.iam.gserviceaccount.com",
    "METRICS_ENDPOINT": "https://telemetry.googleapis.com/v1/metrics",
}
GIVEN = {
    "RUN_ID": "20130325-060000-1a2b3c4d",
    "TRAINING_DATE": "2013-03-25",
    "CHAMPION": "models/2013-02-25/run-1",
    "LIKE": "none",
}


def locked() -> list[str]:
    """``name==version`` of each package in spark/requirements.txt."""
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    return [line.split()[0] for line in lines if "==" in line]


@pytest.fixture
def template():
    """The template as deploy fills it in, parsed by the API's message: a field it does not know is an error."""
    document = yaml.safe_load(string.Template((FOLDER / "template.yaml").read_text()).substitute(VALUES))
    return json_format.ParseDict(document, types.WorkflowTemplate.pb()(), ignore_unknown_fields=False)


def test_the_jobs_form_the_chain(template):
    """Convert, then train, then evaluate, each with the staged driver and the zip it imports from."""
    steps = {job.step_id: list(job.prerequisite_step_ids) for job in template.jobs}
    assert steps == {"convert": [], "train": ["convert"], "evaluate": ["train"]}
    for job in template.jobs:
        assert job.pyspark_job.main_python_file_uri == f"gs://acme-build/spark/abc/{job.step_id}.py"
        assert (FOLDER / f"{job.step_id}.py").is_file()
        assert list(job.pyspark_job.python_file_uris) == ["gs://acme-build/spark/abc/lunation_spark.zip"]


def test_the_parameters_reach_the_drivers(template):
    """Each field path names one argument; with all values in place, the drivers' own parser takes the line."""
    jobs = {job.step_id: job.pyspark_job for job in template.jobs}
    for parameter in template.parameters:
        value = GIVEN[parameter.name]
        assert any(re.fullmatch(pattern, value) for pattern in parameter.validation.regex.regexes)
        for field in parameter.fields:
            path = re.fullmatch(r"jobs\['(\w+)'\]\.pysparkJob\.args\[(\d+)\]", field)
            assert path is not None, field
            step, index = path.groups()
            assert jobs[step].args[int(index)] == parameter.name, "the path points at another argument"
            jobs[step].args[int(index)] = value
    for step, pyspark_job in jobs.items():
        job = parse(step, "", list(pyspark_job.args))
        assert job.model == "gs://acme-models/models/2013-03-25/20130325-060000-1a2b3c4d"
        assert job.work == "gs://acme-archive/parquet/flights/run=20130325-060000-1a2b3c4d"
        assert job.champion == "models/2013-02-25/run-1"
        assert job.limits.unseen == 0.3
        assert job.evaluation_days == 14
        assert job.instance_mib == 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUN_ID", "a/../b"),
        ("RUN_ID", ""),
        ("TRAINING_DATE", "25.03.2013"),
        ("CHAMPION", "models/2013-02-25/../../x"),
        ("LIKE", "2013-02-25/run-1"),
        ("CHAMPION", "gs://other/models/2013-02-25/run-1"),
    ],
)
def test_the_service_refuses_what_the_drivers_would(template, name, value):
    """A bad value stops at the template, before a cluster is paid for."""
    (parameter,) = [item for item in template.parameters if item.name == name]
    assert not any(re.fullmatch(pattern, value) for pattern in parameter.validation.regex.regexes)


def test_the_cluster_ends_by_itself_and_has_no_public_address(template):
    """Time-to-live, whatever happens to the workflow; internal addresses; the unit's own service account."""
    cluster = template.placement.managed_cluster.config
    assert cluster.lifecycle_config.idle_delete_ttl.seconds == 1800
    assert cluster.lifecycle_config.auto_delete_ttl.seconds == 14400
    assert cluster.gce_cluster_config.internal_ip_only
    assert cluster.gce_cluster_config.service_account == VALUES["SERVICE_ACCOUNT"]
    assert 600 <= template.dag_timeout.seconds <= 86400


def test_the_cluster_installs_the_drivers_requirements(template):
    """The property lists the lock, pin by pin: what a package needs is as fixed as the package."""
    properties = template.placement.managed_cluster.config.software_config.properties
    assert properties["dataproc:pip.packages"].split(",") == locked()


def test_a_run_notes_the_versions_of_what_the_cluster_installs():
    """A cluster's pyspark comes with its Spark and not by pip, so it has no version to ask for; Spark itself tells."""
    assert set(PACKAGES) <= {pin.partition("==")[0] for pin in locked()}
    noted = versions("3.5.3")
    assert noted["spark"] == "3.5.3"
    assert set(noted) == {"python", "spark", *PACKAGES}
