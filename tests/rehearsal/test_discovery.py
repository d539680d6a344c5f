"""Requests are held against Google's discovery documents, as they are on the wire: what is not in them is refused."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.firestore_admin_v1 import FirestoreAdminClient
from google.cloud.functions_v2 import FunctionServiceClient
from google.cloud.iam_admin_v1 import IAMClient
from google.cloud.monitoring_v3 import AlertPolicyServiceClient
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.workflows.executions_v1 import Execution, ExecutionsClient
from google.cloud.workflows_v1 import WorkflowsClient
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.pubsub_v1 import PublisherClient

from laptop.surface import Rpc
from lunation.clients import Clients
from lunation.deploy.table import resources
from lunation.settings import Monitoring, load
from rehearsal.discovery import DOCUMENTS, OUTSIDE
from rehearsal.documents import document
from rehearsal.life import Report
from rehearsal.project import Project
from rehearsal.recorder import Call, Notes
from rehearsal.stage import CLIENTS, LAPTOP, Stage
from tests.support import ROOT, ServerProcess, eventually

PROJECT = "example-production"
PARENT = f"projects/{PROJECT}/locations/us-central1"
FUNCTION = f"{PARENT}/functions/classify"
TOPIC = f"projects/{PROJECT}/topics/records"
JOB = f"{PARENT}/jobs/retrain"
OPERATION = f"/v1/projects/{PROJECT}/regions/us-central1/operations/one"
INSTANTIATE = f"/v1/projects/{PROJECT}/regions/us-central1/workflowTemplates/train:instantiate"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients set these variables; they are put back afterwards."""
    for variable in ("PUBSUB_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(variable, "")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """An empty project, in which nothing can be made."""
    with Stage(Project(PROJECT)) as made:
        yield made


@pytest.fixture(scope="module")
def addresses(stage: Stage) -> dict[str, dict[str, str]]:
    """The recorders before it."""
    return stage.admit("deployer")


@pytest.fixture
def notes(stage: Stage) -> Notes:
    """What is noted during a test."""
    stage.notes.calls.clear()
    stage.notes.malformed.clear()
    return stage.notes


def send(address: str, verb: str, path: str, body: Any = None, kind: str | None = None) -> requests.Response:
    """Send a request over HTTP, byte for byte."""
    data = json.dumps(body) if isinstance(body, dict) else body
    headers = {"Content-Type": kind or ("application/json" if isinstance(body, dict) else "")}
    return requests.request(verb, address + path, data=data, headers=headers, timeout=30)


def over_grpc(client: type[Any], address: str) -> Any:
    """A client that speaks gRPC."""
    return client(transport=client.get_transport_class("grpc")(channel=grpc.insecure_channel(address)))


def over_rest(client: type[Any], address: str) -> Any:
    """A client that speaks REST."""
    return client(transport=client.get_transport_class("rest")(host=address, credentials=AnonymousCredentials()))


WRONG_ON_THE_WIRE: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "an unknown field": (
        ("dataproc", "POST", INSTANTIATE, {"requestID": "one", "parameters": {}}),
        ("dataproc.projects.regions.workflowTemplates.instantiate: body.requestID: unknown name", "has no such field"),
    ),
    "an unknown field far below": (
        ("datastore", "POST", f"/v1/projects/{PROJECT}:commit",
         {"mutations": [{"insert": {"properties": {"state": {"stringValue": "x", "excludeFromIndex": True}}}}]}),
        ('body.mutations[0].insert.properties.state.excludeFromIndex: unknown name "excludeFromIndex": Value has',),
    ),
    "a value that no enum has": (
        ("datastore", "POST", f"/v1/projects/{PROJECT}:commit", {"mode": "TRANSACTION"}),
        ("datastore.projects.commit: body.mode: 'TRANSACTION' is none of MODE_UNSPECIFIED, TRANSACTIONAL",),
    ),
    "a read-only field in what is made": (
        ("functions", "POST", f"/v2/{PARENT}/functions?functionId=classify", {"state": "ACTIVE"}),
        ("cloudfunctions.projects.locations.functions.create: body.state: it is read-only",),
    ),
    "a path of no method": (
        ("pubsub", "PUT", f"/v1/projects/{PROJECT}/topic/records", {}),
        (f"PUT /v1/projects/{PROJECT}/topic/records: no method is at this path in pubsub.v1",),
    ),
    "a verb of no method": (
        ("scheduler", "PUT", f"/v1/{JOB}", {}),
        ("no method is at this path in cloudscheduler.v1",),
    ),
    "a method of another version": (
        ("functions", "GET", f"/v1/{FUNCTION}"),
        ("no method is at this path in cloudfunctions.v2 or run.v2",),
    ),
    "an unknown parameter": (
        ("pubsub", "GET", f"/v1/projects/{PROJECT}/topics?maxResults=10"),
        ('pubsub.projects.topics.list: query maxResults: unknown name "maxResults"',),
    ),
    "a parameter of another type": (
        ("pubsub", "GET", f"/v1/projects/{PROJECT}/topics?pageSize=ten"),
        ("query pageSize: 'ten' is no whole number",),
    ),
    "a parameter that no enum has": (
        ("dataflow", "GET", f"/v1b3/projects/{PROJECT}/locations/us-central1/jobs?filter=RUNNING"),
        ("query filter: 'RUNNING' is none of UNKNOWN, ALL, TERMINATED, ACTIVE",),
    ),
    "a parameter twice": (
        ("pubsub", "GET", f"/v1/projects/{PROJECT}/topics?pageSize=1&page_size=2"),
        ("query page_size: it is there twice",),
    ),
    "a required parameter that is missing": (
        ("bucket", "POST", "/storage/v1/b", {"name": "a"}),
        ("storage.buckets.insert: query project: it is required",),
    ),
    "a required field that is missing": (
        ("bucket", "POST", f"/storage/v1/b?project={PROJECT}", {"location": "US"}),
        ("storage.buckets.insert: body.name: it is required",),
    ),
    "a policy of nothing": (
        ("bucket", "PUT", "/storage/v1/b/a/iam", {}),
        ("storage.buckets.setIamPolicy: body.bindings: it is required",),
    ),
    "protobuf's spelling where only JSON's is known": (
        ("bucket", "POST", f"/storage/v1/b?project={PROJECT}", {"name": "a", "storage_class": "STANDARD"}),
        ('body.storage_class: unknown name "storage_class": Bucket has no such field',),
    ),
    "an unknown field beside an upload": (
        ("bucket", "POST", "/upload/storage/v1/b/a/o?uploadType=multipart",
         b'--x\r\nContent-Type: application/json\r\n\r\n{"name": "o", "contenttype": "text/plain"}\r\n'
         b"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--", "multipart/related; boundary=x"),
        ("storage.objects.insert: body.contenttype: unknown name",),
    ),
    "an unknown parameter of an upload": (
        ("bucket", "POST", "/upload/storage/v1/b/a/o?uploadType=media&name=o&ifGenerationMatches=0", b"hello"),
        ('storage.objects.insert: query ifGenerationMatches: unknown name "ifGenerationMatches"',),
    ),
    "a partial answer of what is not there": (
        ("dataproc", "GET", f"{OPERATION}?fields=done,state"),
        ("dataproc.projects.regions.operations.get: query fields: cannot find matching fields for path 'state'",),
    ),
    "a partial answer from within a free-form object": (
        ("dataproc", "GET", f"{OPERATION}?fields=done,error,metadata.state"),
        ("query fields: cannot find matching fields for path 'metadata.state': state is inside a free-form object",),
    ),
    "a change of what is not there": (
        ("functions", "PATCH", f"/v2/{FUNCTION}?updateMask=serviceConfig.maxInstances", {"serviceConfig": {}}),
        ("query updateMask: path 'serviceConfig.maxInstances': ServiceConfig has no field maxInstances",),
    ),
    "a change inside a list": (
        ("functions", "PATCH", f"/v2/{FUNCTION}?updateMask=serviceConfig.secretVolumes.mountPath", {}),
        ("mountPath is inside a list, and a mask names a list as a whole",),
    ),
    "a change in the body of what is not there": (
        ("pubsub", "PATCH", f"/v1/{TOPIC}", {"topic": {"labels": {}}, "updateMask": "label"}),
        ("pubsub.projects.topics.patch: body.updateMask: path 'label': Topic has no field label",),
    ),
    "a change of what only the service sets": (
        ("functions", "PATCH", f"/v2/{FUNCTION}?updateMask=state", {}),
        ("query updateMask: path 'state': state is read-only",),
    ),
    "a duration without its unit": (
        ("scheduler", "POST", f"/v1/{PARENT}/jobs", {"attemptDeadline": "180"}),
        ("cloudscheduler.projects.locations.jobs.create: body.attemptDeadline: '180' is no duration in seconds",),
    ),
    "a time without its zone": (
        ("datastore", "POST", f"/v1/projects/{PROJECT}:lookup", {"readOptions": {"readTime": "2026-01-01T00:00:00"}}),
        ("datastore.projects.lookup: body.readOptions.readTime: '2026-01-01T00:00:00' is no time of RFC 3339",),
    ),
    "bytes that are no base64": (
        ("pubsub", "POST", f"/v1/{TOPIC}:publish", {"messages": [{"data": "a record"}]}),
        ("pubsub.projects.topics.publish: body.messages[0].data: 'a record' is no base64",),
    ),
    "a number for a string": (
        ("pubsub", "POST", f"/v1/{TOPIC}:publish", {"messages": [{"attributes": {"version": 1}}]}),
        ("body.messages[0].attributes.version: 1 is no string",),
    ),
    "a string for a boolean": (
        ("workflows", "POST", f"/v1/{PARENT}/workflows/retrain/executions", {"disableConcurrencyQuotaOverflowBuffering":
         "true"}),
        ("disableConcurrencyQuotaOverflowBuffering: 'true' is neither true nor false",),
    ),
    "a number that does not fit": (
        ("scheduler", "POST", f"/v1/{PARENT}/jobs", {"retryConfig": {"retryCount": 2**31}}),
        ("body.retryConfig.retryCount: 2147483648 does not fit into int32",),
    ),
    "an object for a list": (
        ("pubsub", "POST", f"/v1/{TOPIC}:publish", {"messages": {"data": "eA=="}}),
        ("body.messages: {'data': 'eA=='} is no array",),
    ),
    "a body that is no JSON": (
        ("pubsub", "POST", f"/v1/{TOPIC}:publish", b"messages"),
        ("pubsub.projects.topics.publish: body: it is no JSON",),
    ),
    "a body where none is taken": (
        ("pubsub", "DELETE", f"/v1/{TOPIC}", {"force": True}),
        ("pubsub.projects.topics.delete: body: it takes none",),
    ),
}  # fmt: skip
"""Service, verb, path, body, its type; and the words of the refusal."""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A Cloud Storage that does not mind."""
    server = ServerProcess("storage", tmp_path_factory.mktemp("storage"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def storage_address(bucket: ServerProcess) -> Iterator[tuple[Stage, str]]:
    """A stage with a recorder before it."""
    with Stage(Project(PROJECT), {"storage": {"http": bucket.http, "grpc": bucket.grpc}}) as made:
        yield made, made.admit("deployer", ("storage",))["storage"]["http"]


@pytest.mark.parametrize("what", WRONG_ON_THE_WIRE)
def test_what_is_wrong_on_the_wire_is_refused_with_method_and_place(
    what: str, addresses: dict[str, dict[str, str]], notes: Notes, storage_address: tuple[Stage, str]
) -> None:
    """400, in words that name both, and it is noted, apart from what is invalid by the client packages."""
    (service, verb, path, *body), words = WRONG_ON_THE_WIRE[what]
    if service == "bucket":
        of_storage, address = storage_address
        notes = of_storage.notes
        notes.malformed.clear()
    else:
        address = addresses[service]["http"]
    answer = send(address, verb, path, *body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert all(word in error["message"] for word in words), error["message"]
    (noted,) = notes.violating
    assert (noted.caller, noted.request) == ("deployer", path)
    assert notes.invalid == []


def functions(address: dict[str, str]) -> Any:
    """The client as a deployment uses it."""
    return over_rest(FunctionServiceClient, address["http"])


WRONG_BY_A_CLIENT: dict[str, tuple[str, Callable[[dict[str, str]], Any], str, dict[str, Any], str]] = {
    "a number that no enum has, over REST": (
        "functions", functions, "create_function",
        {"parent": PARENT, "function_id": "f", "function": {"environment": 9}},
        "cloudfunctions.projects.locations.functions.create: body.environment: 9 is none of ENVIRONMENT_UNSPECIFIED",
    ),
    "a read-only field, over REST": (
        "functions", functions, "create_function",
        {"parent": PARENT, "function_id": "f", "function": {"service_config": {"uri": "https://x"}}},
        "body.serviceConfig.uri: it is read-only",
    ),
    "a mask, over REST": (
        "functions", functions, "update_function",
        {"function": {"name": FUNCTION}, "update_mask": {"paths": ["service_config.max_instances"]}},
        "query updateMask: path 'serviceConfig.maxInstances': ServiceConfig has no field maxInstances",
    ),
    "a read-only field, over gRPC": (
        "workflows", lambda one: over_grpc(WorkflowsClient, one["grpc"]), "create_workflow",
        {"parent": PARENT, "workflow_id": "w", "workflow": {"revision_id": "000001-000"}},
        "workflows.projects.locations.workflows.create: body.revisionId: it is read-only",
    ),
    "a mask, over gRPC": (
        "firestore", lambda one: over_grpc(FirestoreAdminClient, one["grpc"]), "update_database",
        {"database": {"name": f"projects/{PROJECT}/databases/(default)"}, "update_mask": {"paths": ["protection"]}},
        "firestore.projects.databases.patch: query updateMask: path 'protection': GoogleFirestoreAdminV1Database has",
    ),
    "a mask in JSON's spelling, over gRPC": (
        "pubsub", lambda one: over_grpc(PublisherClient, one["grpc"]), "update_topic",
        {"topic": {"name": TOPIC}, "update_mask": {"paths": ["kmsKeyName"]}},
        "google.pubsub.v1.Publisher.UpdateTopic: it has no JSON form: Failed to serialize update_mask",
    ),
    "a name, where the package knows no path": (
        "iam", lambda one: over_grpc(IAMClient, one["grpc"]), "create_role",
        {"parent": f"project/{PROJECT}", "role_id": "r", "role": {"title": "r"}},
        f"google.iam.admin.v1.IAM.CreateRole: path parent: 'project/{PROJECT}' is not of the form ^organizations",
    ),
    "a mask, where the package knows no path": (
        "iam", lambda one: over_grpc(IAMClient, one["grpc"]), "update_role",
        {"name": f"projects/{PROJECT}/roles/r", "role": {"title": "r"}, "update_mask": {"paths": ["permissions"]}},
        "iam.projects.roles.patch: query updateMask: path 'permissions': Role has no field permissions",
    ),
    "a mask of another version": (
        "monitoring", lambda one: over_grpc(AlertPolicyServiceClient, one["grpc"]), "update_alert_policy",
        {"alert_policy": {"name": f"projects/{PROJECT}/alertPolicies/1"}, "update_mask": {"paths": ["channels"]}},
        "monitoring.projects.alertPolicies.patch: query updateMask: path 'channels': AlertPolicy has no field",
    ),
    "a duration that is none": (
        "scheduler", lambda one: over_grpc(CloudSchedulerClient, one["grpc"]), "create_job",
        {"parent": PARENT, "job": {"attempt_deadline": {"seconds": 1, "nanos": -1}}},
        "google.cloud.scheduler.v1.CloudScheduler.CreateJob: it has no JSON form: ",
    ),
}  # fmt: skip
"""Service, client, method, request; and the words of the refusal."""


@pytest.mark.parametrize("what", WRONG_BY_A_CLIENT)
def test_what_a_client_sends_wrong_is_refused_with_method_and_place(
    what: str, addresses: dict[str, dict[str, str]], notes: Notes
) -> None:
    """Google's own clients, over both protocols: their messages hold what the API does not take."""
    service, client, method, request, words = WRONG_BY_A_CLIENT[what]
    with pytest.raises((exceptions.InvalidArgument, exceptions.BadRequest)) as raised:
        getattr(client(addresses[service]), method)(request=request, timeout=30)
    assert words in raised.value.message
    assert len(notes.violating) == 1


def test_a_method_that_no_document_has_is_refused_not_passed_over(
    addresses: dict[str, dict[str, str]], notes: Notes
) -> None:
    """Nothing goes unlooked at."""
    with grpc.insecure_channel(addresses["datastore"]["grpc"]) as channel:
        wait = channel.unary_unary(
            "/google.longrunning.Operations/WaitOperation",
            request_serializer=operations_pb2.WaitOperationRequest.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )
        with pytest.raises(grpc.RpcError) as raised:
            wait(operations_pb2.WaitOperationRequest(name="operations/one"), timeout=30)
    words = "google.longrunning.Operations.WaitOperation: no such method is in datastore.v1"
    assert words in raised.value.details()  # type: ignore[attr-defined]
    assert [call.violations for call in notes.violating] == [(words,)]


RIGHT: dict[str, tuple[Any, ...]] = {
    "protobuf's spelling": ("dataproc", "POST", INSTANTIATE, {"request_id": "one", "parameters": {"RUN_ID": "one"}}),
    "a parameter in protobuf's spelling": ("pubsub", "GET", f"/v1/projects/{PROJECT}/topics?page_size=1"),
    "an enum's number": ("datastore", "POST", f"/v1/projects/{PROJECT}:commit", {"mode": 1}),
    "a number as text, and text of 64 bits as a number": (
        "datastore", "POST", f"/v1/projects/{PROJECT}:commit",
        {"mutations": [{"baseVersion": 7, "insert": {"properties": {"a": {"doubleValue": "NaN"}}}}]},
    ),
    "null": ("datastore", "POST", f"/v1/projects/{PROJECT}:commit",
             {"mutations": [{"insert": {"properties": {"a": {"nullValue": None}, "b": {"nullValue": "NULL_VALUE"}}}}]}),
    "bytes of both alphabets, padded or not": (
        "pubsub", "POST", f"/v1/{TOPIC}:publish", {"messages": [{"data": "-_-_"}, {"data": "+/+/eA"}]}
    ),
    "durations and times": (
        "scheduler", "PATCH", f"/v1/{JOB}?updateMask=attemptDeadline",
        {"attemptDeadline": "3.000000001s", "scheduleTime": "2026-01-01T00:00:00.5+02:00"},
    ),
    "what was read, sent back in a change": ("functions", "PATCH", f"/v2/{FUNCTION}", {"state": "ACTIVE"}),
    "a partial answer": ("dataproc", "GET", f"{OPERATION}?fields=done,error(code,message),metadata"),
    "a partial list": ("pubsub", "GET", f"/v1/projects/{PROJECT}/topics?fields=topics(name,labels/a),nextPageToken"),
    "everything of a partial answer": ("functions", "GET", f"/v2/{FUNCTION}?fields=*"),
    "parameters of all methods": (
        "pubsub", "GET", f"/v1/{TOPIC}?$alt=json;enum-encoding=int&prettyPrint=true&key=k&quotaUser=me&$.xgafv=2"
    ),
    "a name with percent signs": ("pubsub", "GET", f"/v1/{TOPIC.replace('/', '%2F')}"),
}  # fmt: skip
"""Service, verb, path, body."""


@pytest.mark.parametrize("what", RIGHT)
def test_what_google_takes_is_not_refused(what: str, addresses: dict[str, dict[str, str]], notes: Notes) -> None:
    """Both spellings of a field, both forms of a number, what a client cannot know better."""
    service, verb, path, *body = RIGHT[what]
    send(addresses[service]["http"], verb, path, *body)
    assert notes.violating == []
    assert len(notes.judged) == 1


def test_cloud_storages_client_sends_nothing_that_is_not_documented(storage_address: tuple[Stage, str]) -> None:
    """Buckets, policies, uploads in one and in parts, partial lists, deletions."""
    of_storage, url = storage_address
    client = storage.Client(project=PROJECT, client_options={"api_endpoint": url}, credentials=AnonymousCredentials())
    bucket = client.bucket("documented")
    bucket.labels = {"a": "b"}
    bucket.lifecycle_rules = [{"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": ["x/"]}}]
    client.create_bucket(bucket, location="US-CENTRAL1")
    bucket.patch(if_metageneration_match=bucket.metageneration)
    policy = bucket.get_iam_policy(requested_policy_version=3)
    policy.bindings = []
    bucket.set_iam_policy(policy)
    whole, parts = bucket.blob("a folder/whole"), bucket.blob("parts", chunk_size=262144)
    whole.metadata = {"sha256": "0"}
    whole.upload_from_string("whole", if_generation_match=0)
    parts.upload_from_string(b"x" * 300000)
    assert whole.download_as_bytes() == b"whole"
    assert [one.name for one in client.list_blobs("documented", fields="items(name),nextPageToken")] == [
        "a folder/whole", "parts",
    ]  # fmt: skip
    list(client.list_blobs("documented", versions=True, delimiter="/"))
    bucket.delete_blobs(list(client.list_blobs("documented")))
    bucket.delete()
    assert [call.violations for call in of_storage.notes.violating if "documented" in str(call.request)] == []
    assert of_storage.notes.unjudged == []
    assert of_storage.notes.judged.keys() >= {
        "storage.buckets.insert", "storage.buckets.patch", "storage.buckets.getIamPolicy", "storage.objects.insert",
        "storage.buckets.setIamPolicy", "storage.objects.get", "storage.objects.list", "storage.objects.delete",
    }  # fmt: skip


def test_every_service_says_which_documents_it_has() -> None:
    """And each of them is there."""
    assert set(DOCUMENTS) >= set(CLIENTS)
    assert all(document(name).methods for names in DOCUMENTS.values() for name in names)
    assert [service for service, names in DOCUMENTS.items() if not names] == ["telemetry"]


def test_a_call_that_no_document_was_asked_about_is_told() -> None:
    """Unless a reason is written down."""
    unlooked, outside = Call("a", "x.y.Z", "", judged_as=""), Call("a", next(iter(OUTSIDE)), "")
    notes = Notes([unlooked, outside, Call("a", "storage.objects.get", "", judged_as="storage.objects.get")])
    assert notes.unjudged == [unlooked]


def test_a_violation_is_reported_and_never_as_it_should_be() -> None:
    """Whatever else went well."""
    well = Report(resources=1, created=1, edit_plan_changes=2, after_crash_created=1, refused_then_made=1)
    assert well.as_it_should_be
    assert not replace(well, discovery_violations=1).as_it_should_be
    assert well.to_json()["discovery_violations"] == 0


def test_every_row_is_made_and_changed_in_every_field_as_documented(bucket: ServerProcess, tmp_path: Path) -> None:
    """Also what no life of a deployment happens to change."""

    async def agree(rpc: Rpc, _: Message) -> Message:
        if rpc.response is operations_pb2.Operation:
            return operations_pb2.Operation(name="operations/one", done=True, response=any_pb2.Any())
        return rpc.response()

    monitoring = Monitoring(email="somebody@example.com")
    settings = load().model_copy(update={"monitoring": monitoring})
    with Stage(Project(PROJECT), {"storage": {"http": bucket.http, "grpc": bucket.grpc}}) as stage:
        answers = {service: agree for service in LAPTOP if service != "storage"}
        file = tmp_path / "endpoints.json"
        file.write_text(json.dumps(stage.admit("deployer", instead=answers)))
        target = settings.target("production").model_copy(update={"endpoints": file, "sample": False})
        clients = Clients(target)
        for row in resources(settings, target):
            with suppress(TypeError):  # an operation that ends with nothing
                row.create(clients)
            with suppress(TypeError, ValueError):  # of a kind that never changes
                row.update(clients, [field for field in row.desired(clients) if field not in row.fixed])
        assert [call.violations for call in stage.notes.refused] == []
        changed = {one for one in stage.notes.judged if one.endswith((".patch", ".update", ".commit", ".setIamPolicy"))}
    assert changed >= {
        "artifactregistry.projects.locations.repositories.patch",
        "cloudfunctions.projects.locations.functions.patch",
        "cloudresourcemanager.projects.setIamPolicy",
        "cloudscheduler.projects.locations.jobs.patch",
        "dataproc.projects.regions.workflowTemplates.update",
        "firestore.projects.databases.collectionGroups.fields.patch",
        "firestore.projects.databases.patch",
        "iam.projects.roles.patch",
        "iam.projects.serviceAccounts.patch",
        "monitoring.projects.alertPolicies.patch",
        "monitoring.projects.dashboards.patch",
        "monitoring.projects.notificationChannels.patch",
        "pubsub.projects.schemas.commit",
        "pubsub.projects.subscriptions.patch",
        "pubsub.projects.topics.patch",
        "run.projects.locations.services.setIamPolicy",
        "storage.buckets.patch",
        "storage.buckets.setIamPolicy",
        "workflows.projects.locations.workflows.patch",
    }


# --- the workflow


class Dataproc:
    """Leaves what a training leaves, and says so in an operation."""

    def __init__(self, models: storage.Bucket) -> None:
        self._models = models

    async def answer(self, rpc: Rpc, request: Any) -> Message:
        """Done at once."""
        if rpc.name == "InstantiateWorkflowTemplate":
            version = f"{request.parameters['TRAINING_DATE']}/{request.parameters['RUN_ID']}"
            content = json.dumps({"model_version": version, "verdict": "PROMOTE", "reasons": ["a good one"]})
            blob = self._models.blob(f"models/{version}/manifest.json")
            blob.metadata = {"sha256": hashlib.sha256(content.encode()).hexdigest()}
            await asyncio.to_thread(blob.upload_from_string, content, "application/json")
        return operations_pb2.Operation(name=f"projects/{PROJECT}/regions/us-central1/operations/one", done=True)


def test_what_the_workflow_asks_is_judged(tmp_path: Path, bucket: ServerProcess) -> None:
    """Each of its requests, by the document of the service that it goes to."""
    servers = {name: ServerProcess(name, tmp_path) for name in ("datastore", "workflows")}
    try:
        for server in servers.values():
            server.start()
        laptop = {name: {"http": one.http, "grpc": one.grpc} for name, one in (*servers.items(), ("storage", bucket))}
        models = storage.Client(
            project=PROJECT, client_options={"api_endpoint": bucket.http}, credentials=AnonymousCredentials()
        ).create_bucket("trained-models")
        with Stage(Project(PROJECT), laptop) as stage:
            asked = stage.admit("retrain", (*laptop, "dataproc"), {"dataproc": Dataproc(models).answer})
            run(asked, laptop)
            judged = {call.judged_as for call in (*stage.notes.of("retrain"), *stage.notes.malformed)}
            assert judged >= {
                "datastore.projects.commit",
                "datastore.projects.lookup",
                "dataproc.projects.regions.operations.get",
                "dataproc.projects.regions.workflowTemplates.instantiate",
                "storage.objects.get",
            }
            assert stage.notes.unjudged == []
    finally:
        for server in servers.values():
            server.stop()


def run(asked: dict[str, dict[str, str]], laptop: dict[str, dict[str, str]]) -> None:
    """Deploy ``retrain.yaml`` and run it to its end."""
    variables = {
        **{f"{name.upper()}_ENDPOINT": asked[name]["http"] for name in ("datastore", "dataproc", "storage")},
        "EXECUTIONS_ENDPOINT": asked["workflows"]["http"],
        "REGION": "us-central1",
        "TEMPLATE": "train",
        "MODELS_BUCKET": "trained-models",
        "USE_CASE": "flights",
        "FIRST_CYCLE_WEEK": "0",
        "CYCLE_WEEKS": "4",
    }
    source = (ROOT / "workflows" / "retrain.yaml").read_text()
    workflow = {"source_contents": source, "user_env_vars": variables}
    created = over_rest(WorkflowsClient, laptop["workflows"]["http"]).create_workflow(
        parent=PARENT, workflow_id="retrain", workflow=workflow
    )
    name = created.result(timeout=20).name
    executions = over_grpc(ExecutionsClient, laptop["workflows"]["grpc"])
    started = executions.create_execution(parent=name, execution=Execution(argument='{"force": true}'))

    def ended() -> bool:
        return bool(executions.get_execution(name=started.name).state != Execution.State.ACTIVE)

    eventually(ended, 60, "the execution ends")
