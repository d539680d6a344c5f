"""Promises of the jobs' metrics: whatever becomes of a job, what it measured arrives; without an endpoint, nothing."""

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud.dataproc_v1 import WorkflowTemplateServiceClient, types
from google.cloud.storage import Client as StorageClient
from google.protobuf import json_format

from lunation.deploy import artefacts
from spark.instruments import instrumented
from spark.job import Job, JobFailedError
from tests.functions.doubles import models
from tests.spark.conftest import SHOP
from tests.spark.test_template import FOLDER, GIVEN, VALUES
from tests.support import ServerProcess
from tests.telemetry_support import Collector

JOB = Job(SHOP, "gs://acme-archive", "gs://acme-models", "run-1", "2024-06-01", None)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where an operator's metrics would go."""
    with Collector().serving() as made:
        yield made


def environment(collector: Collector) -> dict[str, str]:
    """A cluster's, as far as metrics are concerned."""
    return {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.url}


def test_a_job_that_breaks_off_says_so(collector: Collector) -> None:
    """Its own failure and a bug alike: the error passes on, and the metrics tell of it."""
    for error in (JobFailedError("no labels"), ZeroDivisionError()):

        def work(error: Exception = error) -> None:
            raise error

        collector.received.clear()
        with pytest.raises(type(error)):
            instrumented("train", JOB, work, environment(collector))()
        assert "use_case=shop,outcome=failed" in collector.points()["lunation.job.duration"]
        assert (collector.resource()["service.name"], collector.resource()["service.instance.id"]) == ("train", "run-1")


@pytest.mark.parametrize("nothing", [{}, {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ""}])
def test_without_an_endpoint_nothing_is_exported(nothing: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything of OpenTelemetry's loaded; on a laptop the variable is empty."""
    monkeypatch.setattr("spark.instruments.Exporter", None)  # whoever makes one fails
    instrumented("train", JOB, lambda: None, nothing)()


@pytest.mark.spark
def test_what_a_job_of_the_template_measured_arrives(
    serve: Callable[..., ServerProcess], collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the endpoint that deploy puts into the template, by the cluster's environment, through the staged driver's
    own process, over OTLP: first of a run that fails, then of one that is done, and no record with it."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    storage = serve("storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.http)
    client = StorageClient(project="acme", credentials=AnonymousCredentials())
    for bucket in ("acme-archive", "acme-models", "acme-build"):
        client.create_bucket(bucket)
    for artefact in artefacts.stage_spark():
        client.bucket("acme-build").blob(f"spark/abc/{artefact.path.name}").upload_from_filename(artefact.path)
    kind: Any = WorkflowTemplateServiceClient
    transport = kind.get_transport_class("rest")(host=serve("dataproc").http, credentials=AnonymousCredentials())
    templates = kind(transport=transport)
    run = {"parent": "projects/acme/regions/us-central1", "template": _conversion(collector)}

    with pytest.raises(GoogleAPICallError, match="has no objects, so there is nothing to train on"):
        templates.instantiate_inline_workflow_template(**run).result(timeout=90)
    assert {name: list(values) for name, values in collector.points().items()} == {
        "lunation.job.duration": ["use_case=flights,outcome=failed"]
    }

    lines = [json.dumps(models.record(record_id=name)) for name in ("of-one", "of-two", "of-three")]
    content = "\n".join([*lines, lines[0], '{"no": "record"}'])
    client.bucket("acme-archive").blob("archive/records/dt=2013-01-01/one.json").upload_from_string(content)
    templates.instantiate_inline_workflow_template(**run).result(timeout=90)
    points = collector.points()
    assert points["lunation.archive.lines"] == {
        f"use_case=flights,outcome={outcome}": number
        for outcome, number in {
            "records": 3,
            "labelled": 0,
            "duplicates": 1,
            "records_corrupt": 1,
            "labels_corrupt": 0,
            "labels_orphaned": 0,
        }.items()
    }
    assert points["lunation.archive.new_objects"] == {"use_case=flights": 1}
    assert points["lunation.job.duration"]["use_case=flights,outcome=done"] > 0
    told = collector.resource()
    assert told["service.name"] == "convert"
    assert told["service.instance.id"] == GIVEN["RUN_ID"]
    assert told["gcp.project_id"] == VALUES["PROJECT"]
    assert len(collector.received) == 2, "one export a job"
    sent = b"".join(one.SerializeToString() for one in collector.received)
    assert b"of-" not in sent


def _conversion(collector: Collector) -> Any:
    """The template as deploy fills it in and the workflow starts it, but for the later jobs."""
    values = {**VALUES, "METRICS_ENDPOINT": collector.url}
    document = yaml.safe_load(string.Template((FOLDER / "template.yaml").read_text()).substitute(values))
    document["jobs"] = document["jobs"][:1]
    del document["parameters"]
    arguments = document["jobs"][0]["pysparkJob"]["args"]
    given = {**GIVEN, "CHAMPION": "none"}
    document["jobs"][0]["pysparkJob"]["args"] = [given.get(argument, argument) for argument in arguments]
    return types.WorkflowTemplate.wrap(json_format.ParseDict(document, types.WorkflowTemplate.pb()()))
