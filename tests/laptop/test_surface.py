"""Every API that a server answers can be read out of its client package."""

import re

import pytest
from google.cloud import dataflow_v1beta3, dataproc_v1, datastore_admin_v1, functions_v2, scheduler_v1, workflows_v1
from google.cloud.datastore_v1.services.datastore import DatastoreClient
from google.cloud.workflows import executions_v1
from google.pubsub_v1 import PublisherClient, SubscriberClient

from laptop.surface import rpcs_of

CLIENTS = [
    PublisherClient,
    SubscriberClient,
    DatastoreClient,
    datastore_admin_v1.DatastoreAdminClient,
    workflows_v1.WorkflowsClient,
    dataproc_v1.WorkflowTemplateServiceClient,
    dataproc_v1.JobControllerClient,
    dataproc_v1.ClusterControllerClient,
    scheduler_v1.CloudSchedulerClient,
    functions_v2.FunctionServiceClient,
    dataflow_v1beta3.FlexTemplatesServiceClient,
    dataflow_v1beta3.JobsV1Beta3Client,
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_every_rpc_has_a_path_types_and_a_method_name(client: type) -> None:
    """An RPC of a client package has a gRPC path, message classes, and REST paths that begin with a version."""
    rpcs = rpcs_of(client)
    assert rpcs
    for rpc in rpcs:
        assert re.fullmatch(r"/[\w.]+/[A-Z]\w+", rpc.path)
        assert rpc.request.FromString(b"") == rpc.request()
        assert rpc.response.FromString(b"") == rpc.response()
        assert re.fullmatch(r"[a-z][a-z0-9_]+", rpc.handler)
        for route in rpc.http:
            assert route.uri.startswith("/v")
    assert any(rpc.http for rpc in rpcs)


def test_a_client_without_rest_takes_its_paths_from_the_caller() -> None:
    """Executions ships no REST transport, so its server lists the paths."""
    assert not any(rpc.http for rpc in rpcs_of(executions_v1.ExecutionsClient))
