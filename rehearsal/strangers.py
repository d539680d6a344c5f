"""Strangers: what other people have in the project. It survives a deployment and its end, byte for byte.

They have a thing of every kind that a deployment makes, beside ours, and members in the project's policy. Some are
called as ours might be, and two are the accounts of docs/deploy.md and docs/ci, made by hand. A member on a resource
of ours is no stranger: that policy is ours alone (:mod:`lunation.deploy.access`).
"""

import io
import zipfile
from typing import Any

from google.cloud.artifactregistry_v1.types import Repository, Tag
from google.cloud.dataflow_v1beta3.types import Job
from google.cloud.dataproc_v1.types import WorkflowTemplate
from google.cloud.datastore import Entity
from google.cloud.datastore_admin_v1.types import Index
from google.cloud.firestore_admin_v1.types import Database, Field
from google.cloud.functions_v2.types import Function
from google.cloud.iam_admin_v1.types import Role, ServiceAccount
from google.cloud.monitoring_dashboard_v1.types import Dashboard
from google.cloud.monitoring_v3.types import AlertPolicy, NotificationChannel
from google.cloud.scheduler_v1.types import Job as SchedulerJob
from google.cloud.service_usage_v1.types import Service
from google.cloud.workflows_v1.types import Workflow
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.pubsub_v1.types import Schema
from google.type import expr_pb2

from laptop.supervisor import Supervisor
from lunation.clients import Clients
from lunation.settings import Target
from rehearsal.inventory import Found, everything
from rehearsal.project import NUMBER, Project

THEIRS = {"system": "billing"}
MARCH = expr_pb2.Expr(title="temporary", expression='request.time < timestamp("2027-03-01T00:00:00Z")')
APRIL = expr_pb2.Expr(
    title="temporary", expression='request.time < timestamp("2027-04-01T00:00:00Z")', description="asked for by Ada"
)


class Strangers:
    """Those of one project.

    Args:
        project: keeps what the laptop does not serve.
        target: the project, and where it is.
        servers: the laptop's.
    """

    def __init__(self, project: Project, target: Target, servers: Supervisor) -> None:
        self._project = project
        addresses = servers.state / "endpoints.json"
        self._clients = Clients(target.model_copy(update={"endpoints": addresses, "sample": False}))
        for client in ("publisher", "subscriber", "storage", "datastore"):
            getattr(self._clients, client)  # made now: it heeds a variable that the next Clients set anew
        self._before: Found = {}
        self._changed: set[str] = set()

    def move_in(self) -> None:
        """Make all of it, past the recorders: none of these calls is the deployer's."""
        self._kept()
        self._served()
        self._before = everything(self._project, self._clients)

    def changed(self, after: str) -> list[str]:
        """A line for each that is not as it was, and was until now.

        Args:
            after: what has been done.
        """
        now = everything(self._project, self._clients)
        found = {name: "is gone" if name not in now else "is not as it was"
                 for name, before in self._before.items() if now.get(name) != before}  # fmt: skip
        new = {name: how for name, how in found.items() if name not in self._changed}
        self._changed |= new.keys()
        return [f"stranger: {name} {how} after the {after}" for name, how in new.items()]

    # --- what the project keeps itself

    def _kept(self) -> None:
        project, location = f"projects/{self._clients.project}", self._clients.location
        things: list[Any] = [
            *(self._account(name, shown) for name, shown in ACCOUNTS.items()),
            Role(name=f"{project}/roles/auditor", title="Auditor", included_permissions=["logging.logEntries.list"]),
            Role(name=f"{project}/roles/lunationAuditor", title="Reads what Lunation logs",
                 included_permissions=["logging.logEntries.list"], stage="GA"),
            Schema(name=f"{project}/schemas/order", type_="PROTOCOL_BUFFER", definition=SCHEMA),
            Schema(name=f"{project}/schemas/lunation-partner", type_="PROTOCOL_BUFFER", definition=SCHEMA),
            AlertPolicy(name=f"{project}/alertPolicies/901", display_name="Orders wait", user_labels=THEIRS),
            NotificationChannel(name=f"{project}/notificationChannels/902", type_="email", user_labels=THEIRS),
            Dashboard(name=f"{project}/dashboards/903", display_name="Lunation", labels={"billing": ""}),
            Repository(name=f"{location}/repositories/orders", format_="DOCKER", labels=THEIRS),
            Tag(name=f"{location}/repositories/orders/packages/archive/tags/latest", version="sha256:1"),
            Database(name=f"{project}/databases/orders", type_="FIRESTORE_NATIVE"),
            Field(name=f"{project}/databases/(default)/collectionGroups/Order/fields/expire_at",
                  ttl_config={"state": "ACTIVE"}),
            Job(id="2026-01-01_00_00_00-9", name="orders-archive", type_="JOB_TYPE_STREAMING",
                current_state="JOB_STATE_RUNNING", labels=THEIRS),
            Service(name=f"{project}/services/bigquery.googleapis.com", state="ENABLED"),
        ]  # fmt: skip
        for thing in things:
            plain = type(thing).pb(thing) if hasattr(type(thing), "pb") else thing
            name = f"jobs/{plain.id}" if isinstance(thing, Job) else plain.name
            if name not in self._project.things:  # made by hand before
                self._project.put(name, plain)
        policy = policy_pb2.Policy()
        policy.CopyFrom(self._project.policy(project))
        policy.version = 3
        for role, members, condition in self._members():
            same = (
                one for one in policy.bindings if one.role == role and one.condition == (condition or expr_pb2.Expr())
            )
            binding = next(same, None) or policy.bindings.add(role=role, condition=condition)
            binding.members.extend(member for member in members if member not in binding.members)
        kept = self._project.set_policy(project, policy)
        kept.audit_configs.add(service="allServices").audit_log_configs.add(log_type="DATA_WRITE")
        for name in ACCOUNTS:
            account = f"{project}/serviceAccounts/{self._email(name)}"
            invited = policy_pb2.Policy(version=1, etag=self._project.policy(account).etag)
            invited.bindings.add(role="roles/iam.serviceAccountTokenCreator", members=["user:ada@example.com"])
            self._project.set_policy(account, invited)

    def _account(self, name: str, shown: str) -> ServiceAccount:
        email = self._email(name)
        return ServiceAccount(
            name=f"projects/{self._clients.project}/serviceAccounts/{email}", email=email, display_name=shown
        )

    def _email(self, name: str) -> str:
        return f"{name}@{self._clients.project}.iam.gserviceaccount.com"

    def _members(self) -> list[tuple[str, list[str], expr_pb2.Expr | None]]:
        """Who has which role on the project, and when."""
        own = {name: f"serviceAccount:{self._email(name)}" for name in ACCOUNTS}
        return [
            ("roles/owner", ["user:ada@example.com"], None),
            ("roles/editor", [f"serviceAccount:{NUMBER}-compute@developer.gserviceaccount.com",
                              f"serviceAccount:{NUMBER}@cloudservices.gserviceaccount.com"], None),
            ("roles/viewer", ["group:billing@example.com", "domain:example.com", own["lunation-planner"],
                              "serviceAccount:lunation-archive@example-other.iam.gserviceaccount.com",
                              f"deleted:serviceAccount:{self._email('lunation-report')}?uid=123456789012345678901"],
             None),
            ("roles/iam.securityReviewer", [own["lunation-planner"]], None),
            ("roles/pubsub.admin", [own["lunation-deployer"], own["lunation-ci"]], None),
            ("roles/logging.viewer", [own["lunation-someone-else"], own["orders"]], None),
            # Granted by hand, on the whole project, to somebody who may look at what the system does.
            ("roles/run.invoker", ["user:grace@example.com"], None),
            ("roles/storage.objectViewer", ["user:grace@example.com"], MARCH),
            ("roles/storage.objectViewer", ["user:alan@example.com", own["lunation-someone-else"]], APRIL),
        ]  # fmt: skip

    # --- what the laptop serves

    def _served(self) -> None:
        self._buckets()
        self._messages()
        self._entities()
        self._programs()

    def _buckets(self) -> None:
        bucket = self._clients.storage.create_bucket(self._bucket, location=self._clients.target.region)
        bucket.blob("archive/2026.csv").upload_from_string("1,2,3\n")
        access = bucket.get_iam_policy(requested_policy_version=3)
        access.bindings.append({"role": "roles/storage.objectViewer", "members": {"group:billing@example.com"}})
        bucket.set_iam_policy(access)

    @property
    def _bucket(self) -> str:
        return f"{self._clients.project}-orders"

    def _messages(self) -> None:
        publisher, subscriber = self._clients.publisher, self._clients.subscriber
        topic = f"projects/{self._clients.project}/topics/orders"
        subscription = f"projects/{self._clients.project}/subscriptions/orders-archive"
        publisher.create_topic(request={"name": topic, "labels": THEIRS})
        subscriber.create_subscription(request={"name": subscription, "topic": topic, "labels": THEIRS})
        for client, resource in ((publisher, topic), (subscriber, subscription)):
            policy = policy_pb2.Policy(version=1)
            policy.bindings.add(role="roles/pubsub.editor", members=["group:billing@example.com"])
            client.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=resource, policy=policy))

    def _entities(self) -> None:
        order = Entity(self._clients.datastore.key("Order", "1"))
        order.update(customer="grace", paid_at=None)
        self._clients.datastore.put(order)
        properties = [Index.IndexedProperty(name=name, direction="DESCENDING") for name in ("customer", "paid_at")]
        index = Index(kind="Order", ancestor=Index.AncestorMode.NONE, properties=properties)
        request = {"project_id": self._clients.project, "index": index}
        self._clients.datastore_admin.create_index(request=request).result()

    def _programs(self) -> None:
        clients, location = self._clients, self._clients.location
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("main.py", FUNCTION)
        clients.storage.bucket(self._bucket).blob("function.zip").upload_from_string(content.getvalue())
        source = {"storage_source": {"bucket": self._bucket, "object_": "function.zip"}}
        build = {"runtime": "python311", "entry_point": "main", "source": source}
        function = Function(environment="GEN_2", build_config=build, labels=THEIRS)
        request: dict[str, Any] = {"parent": location, "function_id": "orders", "function": function}
        clients.functions.create_function(request=request).result(timeout=60)
        workflow = Workflow(source_contents=WORKFLOW, labels=THEIRS)
        request = {"parent": location, "workflow_id": "orders", "workflow": workflow}
        clients.workflows.create_workflow(request=request).result()
        job = SchedulerJob(
            name=f"{location}/jobs/lunation-orders",
            schedule="0 0 1 1 *",
            time_zone="Etc/UTC",
            http_target={"uri": "https://example.com/orders", "http_method": "POST"},
        )
        clients.scheduler.create_job(parent=location, job=job)
        template = WorkflowTemplate(
            id="lunation-orders",
            jobs=[{"step_id": "count", "pyspark_job": {"main_python_file_uri": f"gs://{self._bucket}/count.py"}}],
            placement={"managed_cluster": {"cluster_name": "orders", "config": {}}},
            labels=THEIRS,
        )
        region = f"projects/{clients.project}/regions/{clients.target.region}"
        clients.workflow_templates.create_workflow_template(parent=region, template=template)


SCHEMA = """syntax = "proto3";

message Order {
  string customer = 1;
}
"""
FUNCTION = """
import functions_framework

@functions_framework.http
def main(request):
    return ""
"""
WORKFLOW = """
main:
  steps:
    - count:
        return: 1
"""
ACCOUNTS = {
    # Made by the commands of docs/deploy.md and docs/ci, which give no name to show.
    "lunation-deployer": "",
    "lunation-planner": "",
    # As the console makes one: the name to show is what the address is made of.
    "lunation-someone-else": "lunation-someone-else",
    "lunation-ci": "Deploys, by `impersonate` in somebody else's lunation.toml",
    "orders": "Orders",
}
"""Their service accounts: what each is called, and the name that it shows."""
