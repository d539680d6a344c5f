"""The servers that the workflow calls, and a workflow on them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.datastore_admin_v1 import DatastoreAdminClient

from lunation.deploy.datastore import CompositeIndex
from tests.support import ServerProcess
from tests.workflows.retrain_support import ARCHIVE, BUCKET, PROJECT, Clients, Dataproc, Loop


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """The three that the workflow calls, for the whole module."""
    state = tmp_path_factory.mktemp("retrain")
    started = {name: ServerProcess(name, Path(state)) for name in ("datastore", "storage", "workflows")}
    for server in started.values():
        server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", started["datastore"].grpc)
        patch.setenv("STORAGE_EMULATOR_HOST", started["storage"].http)
        for bucket in (BUCKET, ARCHIVE):
            storage.Client(project=PROJECT).create_bucket(bucket)
        transport = DatastoreAdminClient.get_transport_class("rest")(
            host=started["datastore"].http, credentials=AnonymousCredentials()
        )
        admin: Any = SimpleNamespace(project=PROJECT, datastore_admin=DatastoreAdminClient(transport=transport))
        CompositeIndex("ModelPromotion", "use_case", "-generation").create(admin)
        CompositeIndex("TrainingRun", "use_case", "-claimed_at").create(admin)
        yield started
    for server in started.values():
        server.stop()


@pytest.fixture(scope="module")
def clients(servers: dict[str, ServerProcess]) -> Clients:
    """Google's clients on them."""
    return Clients(servers)


@pytest.fixture
def loop(servers: dict[str, ServerProcess], clients: Clients) -> Iterator[Loop]:
    """A workflow that is due this week."""
    dataproc = Dataproc(clients.storage.bucket(BUCKET))
    thread = threading.Thread(target=dataproc.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Loop(servers, dataproc, clients)
    dataproc.server.shutdown()
    dataproc.server.server_close()
    thread.join()
    for server in servers.values():
        server.admin("DELETE", "/_laptop/faults")
