"""The archive pipeline, launched from an operator's machine by Beam's own Dataflow runner."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage  # type: ignore[attr-defined]

from lunation.deploy import artefacts
from rehearsal.project import Project
from rehearsal.stage import Stage
from tests.support import ServerProcess, eventually

PROJECT = "example-production"
IMAGE = f"us-central1-docker.pkg.dev/{PROJECT}/lunation/archive:0123456789ab"


def test_the_launcher_submits_a_streaming_job_that_dataflow_would_take(
    serve: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The staged launcher, with nothing else on the path: its job passes the judge, runs our image as our account, and
    the pipeline that it names lies in the bucket."""
    monkeypatch.setattr(artefacts, "BUILD", tmp_path / "build")
    server = serve("storage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.http)
    bucket = storage.Client(project=PROJECT).create_bucket(f"{PROJECT}-build")
    with zipfile.ZipFile(artefacts.stage_dataflow().path) as staged:
        staged.extractall(tmp_path / "unit")
    with Stage(Project(PROJECT)) as stage:
        endpoint = stage.admit("deployer", ("dataflow",))["dataflow"]["http"].replace("127.0.0.1", "localhost")
        log = tmp_path / "launch.log"
        process = subprocess.Popen(
            [
                *(sys.executable, str(tmp_path / "unit" / "dataflow" / "launch.py"), "--runner=DataflowRunner"),
                *(f"--project={PROJECT}", "--region=us-central1", "--job_name=lunation-archive", "--no_auth"),
                *(f"--dataflow_endpoint={endpoint}", f"--temp_location=gs://{bucket.name}/dataflow/temp"),
                *(f"--staging_location=gs://{bucket.name}/dataflow/staging", "--sdk_location=container"),
                *(f"--sdk_container_image={IMAGE}", "--no_use_public_ips", "--enable_streaming_engine"),
                f"--service_account_email=lunation-archive@{PROJECT}.iam.gserviceaccount.com",
                f"--records_subscription=projects/{PROJECT}/subscriptions/records-archive",
                *(
                    f"--archive_bucket={PROJECT}-archive",
                    f"--dead_letters_topic=projects/{PROJECT}/topics/dead-letters",
                ),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": str(tmp_path / "unit"),
                "STORAGE_EMULATOR_HOST": server.http,
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                "NO_GCE_CHECK": "true",
            },
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        try:

            def submitted() -> list[Any]:
                assert process.poll() is None, log.read_text()[-3000:]
                return [call for call in stage.notes.calls if call.method.endswith("CreateJob")]

            (call,) = eventually(submitted, 60)
        finally:
            process.kill()
            process.wait()
        job = call.request.job
        assert stage.notes.invalid == []
        assert job.type_.name == "JOB_TYPE_STREAMING" if hasattr(job.type_, "name") else job.type_ == 2
        assert job.environment.service_account_email.startswith("lunation-archive@")
        (pool,) = job.environment.worker_pools
        assert IMAGE in {image.container_image for image in pool.sdk_harness_container_images}
        assert [blob.name for blob in bucket.list_blobs() if blob.name.endswith("pipeline.pb")]
