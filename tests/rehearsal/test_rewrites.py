"""What is read comes back as Google's services give it, and a thing can be put into a bad state."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from google.api_core import exceptions
from google.cloud.functions_v2 import types as functions
from google.iam.v1 import iam_policy_pb2

from lunation.clients import Clients
from lunation.deploy.access import Access, Grant, project_policy
from lunation.deploy.accounts import CustomRole, ServiceAccount
from lunation.deploy.apis import Api
from lunation.deploy.plan import compare
from lunation.deploy.resource import Resource
from rehearsal.bad_states import BAD, unseen
from rehearsal.normal_forms import REWRITES
from rehearsal.project import NUMBER, Project
from rehearsal.rewrites import Rewrites
from rehearsal.stage import Stage
from tests.rehearsal_support import LOCATION, PROJECT, Kept, clients_of
from tests.support import ServerProcess

MEMBER = f"serviceAccount:lunation-push@{PROJECT}.iam.gserviceaccount.com"


@pytest.fixture
def project() -> Project:
    """An empty one."""
    return Project(PROJECT)


@pytest.fixture
def rewrites(project: Project) -> Rewrites:
    """The judge."""
    return Rewrites(project)


@pytest.fixture
def stage(project: Project, rewrites: Rewrites) -> Iterator[Stage]:
    """With nothing but this judge."""
    with Stage(project, judges=[rewrites]) as made:
        yield made


def test_each_row_of_the_table_says_where_it_is_documented() -> None:
    """A rewrite without a source would be an opinion; one that is not sure says why in its words."""
    for rewrite in REWRITES:
        assert re.match(r"https://\S+", rewrite.source), rewrite
        assert rewrite.what
    assert len({(one.kind, one.what) for one in REWRITES}) == len(REWRITES)
    assert all(bad.source.startswith("https://") for bad in BAD)


def test_a_functions_source_reads_back_as_the_services_own(stage: Stage, tmp_path: Path) -> None:
    """Its bucket, its object and a generation, the same in whatever tells of it; what was declared besides stays."""
    clients = clients_of(stage, tmp_path, ("functions",), {"functions": Kept().answer})
    source = {"storage_source": {"bucket": f"{PROJECT}-build", "object_": "f/1.zip"}}
    made = clients.functions.create_function(
        request={
            "parent": LOCATION,
            "function_id": "f",
            "function": {"build_config": {"runtime": "python311", "source": source}, "labels": {"source": "1"}},
        }
    ).result(timeout=20)
    read = clients.functions.get_function(name=f"{LOCATION}/functions/f")
    (listed,) = clients.functions.list_functions(parent=LOCATION)
    assert made == read == listed
    storage = read.build_config.source.storage_source
    assert (storage.bucket, storage.object_) == (f"gcf-v2-sources-{NUMBER}-us-central1", "f/function-source.zip")
    assert storage.generation > 10**15
    assert read.service_config.environment_variables == {"LOG_EXECUTION_ID": "true"}
    assert read.labels == {"source": "1"}


def test_another_source_has_another_generation(rewrites: Rewrites, stage: Stage, tmp_path: Path) -> None:
    """As it is at Google's, where each deployment uploads anew."""
    clients = clients_of(stage, tmp_path, ("functions",), {"functions": Kept().answer})

    def generation(name: str) -> int:
        source = {"storage_source": {"bucket": f"{PROJECT}-build", "object_": name}}
        function = {"name": f"{LOCATION}/functions/f", "build_config": {"runtime": "python311", "source": source}}
        done = clients.functions.update_function(request={"function": function}).result(timeout=20)
        return int(done.build_config.source.storage_source.generation)

    assert generation("f/1.zip") == generation("f/1.zip") != generation("f/2.zip")


def test_a_policy_comes_back_in_another_order(stage: Stage, tmp_path: Path) -> None:
    """Merged by role, members turned around and in small letters; what is granted stays the same."""
    clients = clients_of(stage, tmp_path, ("resourcemanager", "iam"))
    policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
    policy.bindings.add(role="roles/viewer", members=["user:Ann@Example.com"])
    policy.bindings.add(role="roles/editor", members=["allUsers"])
    policy.bindings.add(role="roles/viewer", members=["user:bob@example.com"])
    clients.projects.set_iam_policy(
        request=iam_policy_pb2.SetIamPolicyRequest(resource=f"projects/{PROJECT}", policy=policy)
    )
    read = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
    assert [(one.role, list(one.members)) for one in read.bindings] == [
        ("roles/viewer", ["user:bob@example.com", "user:ann@example.com"]),
        ("roles/editor", ["allUsers"]),
    ]


def test_a_grant_names_the_account_not_its_address(stage: Stage, tmp_path: Path) -> None:
    """Once the account is deleted the member reads with its id, and whoever has the address next is refused beside
    it."""
    clients = clients_of(stage, tmp_path, ("resourcemanager", "iam"))
    account = ServiceAccount("push", "pushes")
    account.create(clients)
    access = Access(project_policy(), Grant("roles/viewer", MEMBER, "looks"))
    access.create(clients)
    assert compare(access, clients).action == "unchanged"
    account.delete(clients)
    policy = clients.projects.get_iam_policy(request={"resource": f"projects/{PROJECT}"})
    (gone,) = policy.bindings[0].members
    assert re.fullmatch(rf"deleted:{re.escape(MEMBER)}\?uid=\d{{21}}", gone)
    account.create(clients)
    assert compare(access, clients).action != "unchanged", "the new one was granted nothing"
    policy.bindings[0].members.append(MEMBER)
    request = iam_policy_pb2.SetIamPolicyRequest(resource=f"projects/{PROJECT}", policy=policy)
    with pytest.raises(exceptions.InvalidArgument, match="shares its name with deleted:"):
        clients.projects.set_iam_policy(request=request)
    policy.bindings[0].members.remove(gone)
    request = iam_policy_pb2.SetIamPolicyRequest(resource=f"projects/{PROJECT}", policy=policy)
    clients.projects.set_iam_policy(request=request)
    assert compare(access, clients).action == "unchanged"


def test_lists_come_in_another_order_and_tell_less(stage: Stage, tmp_path: Path) -> None:
    """Roles without what they give, unless asked for; the permissions of one in an order of the service's own."""
    clients = clients_of(stage, tmp_path, ("iam",))
    for name in ("lunationA", "lunationB"):
        CustomRole(name, ("storage.objects.get", "storage.objects.list"), name).create(clients)
    listed = list(clients.iam.list_roles(request={"parent": f"projects/{PROJECT}"}))
    assert [role.name.rsplit("/", 1)[1] for role in listed] == ["lunationB", "lunationA"]
    assert not listed[0].included_permissions
    role = clients.iam.get_role(request={"name": f"projects/{PROJECT}/roles/lunationA"})
    assert list(role.included_permissions) == ["storage.objects.list", "storage.objects.get"]


def test_a_list_of_jobs_has_no_labels(stage: Stage, tmp_path: Path) -> None:
    """Dataflow's lists are summaries; the job itself tells its labels, and some of the service's own."""
    clients = clients_of(stage, tmp_path, ("dataflow",))
    clients.flex_templates.launch_flex_template(
        request={
            "project_id": PROJECT,
            "location": "us-central1",
            "launch_parameter": {
                "job_name": "j",
                "container_spec_gcs_path": "gs://b/s.json",
                "environment": {"additional_user_labels": {"system": "lunation"}},
            },
        }
    )
    where = {"project_id": PROJECT, "location": "us-central1"}
    (job,) = clients.dataflow_jobs.list_jobs(request={**where, "filter": "ACTIVE"})
    assert dict(job.labels) == {}
    labels = clients.dataflow_jobs.get_job(request={**where, "job_id": job.id}).labels
    assert labels["system"] == "lunation"
    assert any(key.startswith("goog-dataflow-provided") for key in labels)


def test_a_bucket_reads_back_with_what_the_service_fills_in(
    serve: Callable[..., ServerProcess], project: Project, rewrites: Rewrites, tmp_path: Path
) -> None:
    """Numbers as texts, the old name of uniform access, nothing for what is off; the basic roles in its policy."""
    server = serve("storage")
    with Stage(project, {"storage": {"http": server.http, "grpc": ""}}, [rewrites]) as stage:
        storage = clients_of(stage, tmp_path, ("storage",)).storage
        bucket = storage.bucket("a-bucket")
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.versioning_enabled = False
        storage.create_bucket(bucket, location="us-central1")
        read = storage.get_bucket("a-bucket")
        assert read.location == "US-CENTRAL1"
        assert read._properties["iamConfiguration"]["bucketPolicyOnly"]["enabled"]  # noqa: SLF001  # all that the client read
        assert read._properties["softDeletePolicy"]["retentionDurationSeconds"] == "604800"  # noqa: SLF001  # all that the client read
        assert "versioning" not in read._properties  # noqa: SLF001  # all that the client read
        assert not read.versioning_enabled
        roles = {binding["role"] for binding in read.get_iam_policy(requested_policy_version=3).bindings}
        assert roles == {"roles/storage.legacyBucketOwner", "roles/storage.legacyBucketReader"}


def test_an_api_is_named_by_the_projects_number(stage: Stage, tmp_path: Path) -> None:
    """And is on all the same."""
    clients = clients_of(stage, tmp_path, ("serviceusage",))
    api = Api("pubsub.googleapis.com")
    api.create(clients)
    name = f"projects/{PROJECT}/services/pubsub.googleapis.com"
    assert clients.service_usage.get_service(request={"name": name}).name.startswith(f"projects/{NUMBER}/")
    assert compare(api, clients).action == "unchanged"


def test_a_broken_thing_tells_its_state_until_it_is_made_anew(rewrites: Rewrites, stage: Stage, tmp_path: Path) -> None:
    """Read or listed; an update mends it."""
    clients = clients_of(stage, tmp_path, ("functions",), {"functions": Kept().answer})
    name = f"{LOCATION}/functions/f"
    function = {"name": name, "build_config": {"runtime": "python311"}}
    clients.functions.update_function(request={"function": function}).result(timeout=20)
    rewrites.breaks(name, "FAILED")
    (listed,) = clients.functions.list_functions(parent=LOCATION)
    assert clients.functions.get_function(name=name).state == listed.state == functions.Function.State.FAILED
    clients.functions.update_function(request={"function": function}).result(timeout=20)
    assert clients.functions.get_function(name=name).state != functions.Function.State.FAILED


class _Blind(Resource):
    """A time to live that looks at nothing but whether the field is there."""

    kind: ClassVar[str] = "ttl"
    about = service = api = managed_with = ""
    looks_at_state = False

    def desired(self, clients: Clients) -> dict[str, Any]:
        return {"state": "ACTIVE"} if self.looks_at_state else {}

    def read(self, clients: Clients) -> dict[str, Any] | None:
        path = f"projects/{PROJECT}/databases/(default)/collectionGroups/Record/fields/expire_at"
        field = clients.firestore_admin.get_field(name=path)
        return {"state": field.ttl_config.state.name}

    def create(self, clients: Clients) -> None: ...
    def update(self, clients: Clients, changed: list[str]) -> None: ...
    def delete(self, clients: Clients) -> None: ...


@pytest.mark.parametrize("looks", [False, True])
def test_a_plan_that_does_not_see_a_bad_state_is_told(
    looks: bool, project: Project, rewrites: Rewrites, stage: Stage, tmp_path: Path
) -> None:
    """A row that looks only at what was declared is named with the state; one that looks at the state is not."""
    clients = clients_of(stage, tmp_path, ("firestore",))
    clients.firestore_admin.create_database(
        parent=f"projects/{PROJECT}", database={"type_": "DATASTORE_MODE"}, database_id="(default)"
    )
    name = f"projects/{PROJECT}/databases/(default)/collectionGroups/Record/fields/expire_at"
    clients.firestore_admin.update_field(request={"field": {"name": name, "ttl_config": {}}})
    row = _Blind("Record.expire_at")
    row.looks_at_state = looks
    found = unseen([row], clients, rewrites, project)
    assert found == ([] if looks else ["ttl/Record.expire_at in state NEEDS_REPAIR counts as unchanged"])
