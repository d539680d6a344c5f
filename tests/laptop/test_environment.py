"""``laptop env``: what sends Google's libraries and gcloud to the servers that are there."""

from pathlib import Path

from typer.testing import CliRunner

from laptop.__main__ import app, environment

HERE = {"http": "http://127.0.0.1:1", "grpc": "127.0.0.1:2"}


def test_it_names_only_the_servers_that_were_started() -> None:
    """``laptop up --only storage`` has one address, and no other service is sent anywhere."""
    variables = environment({"storage": HERE}, Path("/state"), "local-dev")
    assert variables["STORAGE_EMULATOR_HOST"] == "http://127.0.0.1:1"
    assert variables["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"] == "http://127.0.0.1:1/"
    assert [name for name in variables if "PUBSUB" in name or "DATASTORE" in name or "WORKFLOW" in name] == []


def test_it_sends_the_libraries_to_grpc_and_to_http_as_each_reads_its_variable() -> None:
    """Pub/Sub's and Datastore's libraries take a host and a port, Storage's a URL."""
    variables = environment({"pubsub": HERE, "datastore": HERE, "storage": HERE}, Path("/state"), "local-dev")
    assert variables["PUBSUB_EMULATOR_HOST"] == variables["DATASTORE_EMULATOR_HOST"] == "127.0.0.1:2"
    assert variables["STORAGE_EMULATOR_HOST"] == "http://127.0.0.1:1"


def test_without_servers_it_says_how_to_start_them(tmp_path: Path) -> None:
    """And prints nothing that a shell would evaluate."""
    done = CliRunner().invoke(app, ["env", "--state", str(tmp_path)])
    assert done.exit_code == 1
    assert f"python -m laptop up --state {tmp_path}" in done.stderr
    assert done.stdout == ""
