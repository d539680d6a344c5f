"""Google's service agents are asked for before anybody grants them something, and have the roles they work by."""

from pathlib import Path

from google.iam.v1 import policy_pb2

from lunation.deploy.access import project_policy
from lunation.deploy.plan import apply, destroy, plan
from lunation.deploy.service_agents import AGENTS, ServiceAgent
from rehearsal.project import NUMBER
from rehearsal.stage import Stage
from tests.lunation.rehearsed import PROJECT, rehearsed

AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"


def agent() -> ServiceAgent:
    """Pub/Sub's."""
    return ServiceAgent("pubsub.googleapis.com", *AGENTS["pubsub.googleapis.com"])


def asked(stage: Stage) -> list[str]:
    """The requests that make one."""
    return [str(call.request) for call in stage.notes.calls if call.method.endswith("generateServiceIdentity")]


def test_an_agent_is_asked_for_once_and_given_its_role(tmp_path: Path) -> None:
    """One that was asked for gets no role by itself; others' roles, also of this name, stay; destroy leaves it."""
    with rehearsed(tmp_path) as (stage, clients):
        policy = policy_pb2.Policy(etag=b"0")
        policy.bindings.add(role="roles/pubsub.serviceAgent", members=["user:me@example.com"])
        stage.project.set_policy(f"projects/{PROJECT}", policy)
        assert [change.action for change in apply([agent()], clients)] == ["create"]
        assert asked(stage) == [f"/v1beta1/projects/{PROJECT}/services/pubsub.googleapis.com:generateServiceIdentity"]
        (binding,) = project_policy().get(clients).bindings
        assert list(binding.members) == ["user:me@example.com", AGENT]
        assert [change.action for change in plan([agent()], clients)] == ["unchanged"]
        assert [change.action for change in destroy([agent()], clients)] == ["keep"]
        assert AGENT in str(project_policy().get(clients))


def test_an_agent_that_came_by_itself_is_left_alone(tmp_path: Path) -> None:
    """Google gave it its role when its service was first used."""
    with rehearsed(tmp_path) as (stage, clients):
        policy = policy_pb2.Policy(etag=b"0")
        policy.bindings.add(role="roles/pubsub.serviceAgent", members=[AGENT])
        stage.project.set_policy(f"projects/{PROJECT}", policy)
        assert [change.action for change in apply([agent()], clients)] == ["unchanged"]
        assert asked(stage) == []
