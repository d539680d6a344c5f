"""What a call needs is told for its caller and for everybody who acts because of it."""

from typing import Any

import pytest
from google.cloud.dataflow_v1beta3 import types as dataflow
from google.cloud.dataproc_v1 import types as dataproc
from google.cloud.devtools.cloudbuild_v1 import types as cloudbuild
from google.cloud.functions_v2 import types as functions
from google.cloud.location import locations_pb2
from google.cloud.monitoring_v3 import types as monitoring
from google.pubsub_v1 import types as pubsub

from rehearsal.agents import AGENTS
from rehearsal.needs import Need, UnknownMethodError, needs
from rehearsal.predefined import PERMISSIONS
from rehearsal.recorder import Call

PLACE = "projects/p/locations/us-central1"


def needed(method: str, request: Any, known: dict[str, Any] | None = None, body: bytes = b"") -> list[Need]:
    """What ``method`` needs with ``request``; every name in it is one that Google knows."""
    plain = type(request).pb(request) if hasattr(type(request), "pb") else request
    found = needs(Call("deployer", method, plain, body=body), known or {}, "p")
    assert {one.permission for one in found} <= PERMISSIONS
    return found


def own(found: list[Need]) -> set[tuple[str, str]]:
    """The caller's."""
    return {(one.permission, one.resource) for one in found if not one.account}


def of(found: list[Need], account: str) -> set[tuple[str, str]]:
    """Somebody else's."""
    return {(one.permission, one.resource) for one in found if one.account == account}


def test_a_method_without_a_row_is_an_error_by_name() -> None:
    """Nothing passes because nobody thought of it."""
    with pytest.raises(
        UnknownMethodError, match=r"google\.pubsub\.v1\.Subscriber\.Seek: rehearsal/needs\.py does not say"
    ):
        needed("google.pubsub.v1.Subscriber.Seek", pubsub.SeekRequest(subscription="projects/p/subscriptions/s"))


def test_an_operation_needs_what_its_service_asks_for() -> None:
    """Workflows and Functions have operations of the same form; one that nobody started is an error."""
    name = f"{PLACE}/operations/operation-1"

    class Request:
        def __init__(self, name: str) -> None:
            self.name = name

    method = "google.longrunning.Operations.GetOperation"
    known = {name: "google.cloud.workflows.v1.Workflows"}
    assert own(needed(method, Request(name), known)) == {("workflows.operations.get", name)}
    with pytest.raises(UnknownMethodError, match="no call of this rehearsal started that operation"):
        needed(method, Request(name))


def test_where_a_service_is_needs_a_permission_of_that_service() -> None:
    """All services have the same method for it; without a document that tells which one it is, it is an error."""
    method = "google.cloud.location.Locations.ListLocations"
    request = locations_pb2.ListLocationsRequest(name="projects/p")
    call = Call("deployer", method, request, judged_as="workflows.projects.locations.list")
    assert needs(call, {}, "p") == [Need("workflows.locations.list", "projects/p")]
    with pytest.raises(UnknownMethodError, match="ListLocations"):
        needed(method, request)


def test_a_function_is_made_by_who_may_act_as_both_its_accounts() -> None:
    """The build account reads the source that Functions has put away, and pushes an image; the agents do the rest."""
    function = functions.Function(
        name=f"{PLACE}/functions/f",
        build_config={
            "service_account": "projects/p/serviceAccounts/b@p",
            "docker_repository": f"{PLACE}/repositories/r",
        },
        service_config={"service_account_email": "f@p"},
    )
    request = functions.CreateFunctionRequest(parent=PLACE, function_id="f", function=function)
    found = needed("google.cloud.functions.v2.FunctionService.CreateFunction", request)
    assert own(found) == {
        ("cloudfunctions.functions.create", PLACE),
        ("iam.serviceAccounts.actAs", "projects/p/serviceAccounts/f@p"),
        ("iam.serviceAccounts.actAs", "projects/p/serviceAccounts/b@p"),
    }
    build = dict(of(found, "b@p"))
    assert build["storage.objects.get"].startswith("projects/_/buckets/gcf-v2-sources-")
    assert build["artifactregistry.repositories.uploadArtifacts"] == f"{PLACE}/repositories/r"
    assert ("run.services.create", "projects/p") in of(found, AGENTS["cloudfunctions"].email)


def test_a_build_reads_its_source_and_pushes_as_its_account() -> None:
    """An image that is copied from another project is allowed there, or not."""
    build = cloudbuild.Build(
        source={"storage_source": {"bucket": "b", "object_": "a/1.zip"}},
        images=["us-central1-docker.pkg.dev/p/r/archive:1"],
        service_account="projects/p/serviceAccounts/b@p",
    )
    request = cloudbuild.CreateBuildRequest(parent=PLACE, build=build)
    found = needed("google.devtools.cloudbuild.v1.CloudBuild.CreateBuild", request)
    assert ("iam.serviceAccounts.actAs", "projects/p/serviceAccounts/b@p") in own(found)
    assert ("storage.objects.get", "projects/_/buckets/b/objects/a/1.zip") in of(found, "b@p")
    assert ("artifactregistry.repositories.uploadArtifacts", f"{PLACE}/repositories/r") in of(found, "b@p")


def test_a_streaming_job_works_as_its_account() -> None:
    """It pulls its image, stages its files, and reads the subscriptions and writes the topics of its parameters."""
    environment = {
        "service_account_email": "a@p",
        "sdk_container_image": "us-central1-docker.pkg.dev/p/r/archive:1",
        "temp_location": "gs://b/temp",
        "staging_location": "gs://b/staging",
    }
    parameters = {"from": "projects/p/subscriptions/s", "to": "projects/p/topics/t", "window": "60"}
    launch = {"container_spec_gcs_path": "gs://b/spec.json", "environment": environment, "parameters": parameters}
    request = dataflow.LaunchFlexTemplateRequest(project_id="p", location="us-central1", launch_parameter=launch)
    found = needed("google.dataflow.v1beta3.FlexTemplatesService.LaunchFlexTemplate", request)
    assert own(found) == {
        ("dataflow.jobs.create", "projects/p"),
        ("iam.serviceAccounts.actAs", "projects/p/serviceAccounts/a@p"),
    }
    worker = of(found, "a@p")
    assert ("dataflow.workItems.lease", "projects/p") in worker
    assert ("storage.objects.delete", "projects/_/buckets/b") in worker
    assert ("artifactregistry.repositories.downloadArtifacts", f"{PLACE}/repositories/r") in worker
    assert ("pubsub.subscriptions.get", "projects/p/subscriptions/s") in worker
    assert ("pubsub.topics.publish", "projects/p/topics/t") in worker


def test_a_training_s_cluster_works_as_the_account_of_its_template() -> None:
    """The drivers are read, the archive is read and written through the connector, the models by single objects."""
    name = "projects/p/regions/us-central1/workflowTemplates/t"
    args = ["--archive", "gs://archive", "--models", "gs://models"]
    job = {"step_id": "s", "pyspark_job": {"main_python_file_uri": "gs://b/train.py", "args": args}}
    config = {"config_bucket": "b", "gce_cluster_config": {"service_account": "t@p"}}
    template = dataproc.WorkflowTemplate(
        name=name, jobs=[job], placement={"managed_cluster": {"cluster_name": "c", "config": config}}
    )
    request = dataproc.InstantiateWorkflowTemplateRequest(name=name)
    known = {name: dataproc.WorkflowTemplate.pb(template)}
    method = "google.cloud.dataproc.v1.WorkflowTemplateService.InstantiateWorkflowTemplate"
    found = needed(method, request, known)
    assert ("iam.serviceAccounts.actAs", "projects/p/serviceAccounts/t@p") in own(found)
    cluster = of(found, "t@p")
    assert ("dataproc.tasks.lease", "projects/p") in cluster
    assert ("storage.objects.get", "projects/_/buckets/b/objects/train.py") in cluster
    assert ("storage.objects.delete", "projects/_/buckets/archive") in cluster
    assert ("storage.objects.create", "projects/_/buckets/models") in cluster
    assert ("storage.objects.delete", "projects/_/buckets/models") not in cluster


def test_an_alert_on_log_entries_needs_a_permission_of_logging() -> None:
    """One on a metric does not."""
    on_log = monitoring.AlertPolicy.Condition(condition_matched_log={"filter": "severity>=ERROR"})
    on_metric = monitoring.AlertPolicy.Condition(condition_threshold={"filter": "x"})
    for condition, further in ((on_log, {"logging.notificationRules.create"}), (on_metric, set())):
        request = monitoring.CreateAlertPolicyRequest(name="projects/p", alert_policy={"conditions": [condition]})
        found = needed("google.monitoring.v3.AlertPolicyService.CreateAlertPolicy", request)
        assert {one.permission for one in found} == {"monitoring.alertPolicies.create", *further}


@pytest.mark.parametrize(
    ("there", "query", "permissions"),
    [
        (False, "", {"storage.objects.create"}),
        (True, "", {"storage.objects.create", "storage.objects.delete"}),
        (True, "&ifGenerationMatch=0", {"storage.objects.create"}),
    ],
)
def test_taking_an_object_s_place_needs_the_right_to_delete_it(there: bool, query: str, permissions: set[str]) -> None:
    """Unless the writer asks that none be there. The name may stand in the query or in the upload's first part."""
    path = "projects/_/buckets/b/objects/a/x.json"
    known = {path: True} if there else {}
    multipart = b'--==1==\r\ncontent-type: application/json\r\n\r\n{"name": "a/x.json"}\r\n--==1==\r\n\r\n{}\r\n'
    named = f"/upload/storage/v1/b/b/o?uploadType=resumable&name=a%2Fx.json{query}"
    for address, body in (("/upload/storage/v1/b/b/o?uploadType=multipart" + query, multipart), (named, b"")):
        assert own(needed("storage.objects.insert", address, known, body)) == {(one, path) for one in permissions}


def test_the_rest_of_an_upload_was_allowed_when_it_began() -> None:
    """Its address is a secret of its own."""
    assert needed("storage.objects.insert", "/upload/storage/v1/b/b/o?uploadType=resumable&upload_id=1") == []


def test_what_is_published_is_pushed_and_forwarded_by_google_s_agent() -> None:
    """All of it comes after the answer, so none of it refuses the publisher."""
    topic, name = "projects/p/topics/t", "projects/p/subscriptions/s"
    subscription = pubsub.Subscription(
        name=name,
        topic=topic,
        push_config={"push_endpoint": "https://f/", "oidc_token": {"service_account_email": "push@p"}},
        dead_letter_policy={"dead_letter_topic": "projects/p/topics/dead"},
    )
    function = functions.Function(name=f"{PLACE}/functions/f", service_config={"uri": "https://f"})
    known = {name: pubsub.Subscription.pb(subscription), function.name: functions.Function.pb(function)}
    found = needed("google.pubsub.v1.Publisher.Publish", pubsub.PublishRequest(topic=topic), known)
    assert own(found) == {("pubsub.topics.publish", topic)}
    assert of(found, AGENTS["pubsub"].email) == {
        ("iam.serviceAccounts.getOpenIdToken", "projects/p/serviceAccounts/push@p"),
        ("pubsub.subscriptions.consume", name),
        ("pubsub.topics.publish", "projects/p/topics/dead"),
    }
    assert of(found, "push@p") == {("run.routes.invoke", f"{PLACE}/services/f")}
    assert all(one.follows for one in found if one.account)
