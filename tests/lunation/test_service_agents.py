"""Google's service agents are asked for before anybody grants them something, and have the roles they work by."""

from pathlib import Path

from google.iam.v1 import policy_pb2

from laptop.errors import ServiceError
from lunation.deploy.access import project_policy
from lunation.deploy.plan import apply, destroy, plan
from lunation.deploy.service_agents import AGENTS, PUBSUB, ServiceAgents, agent
from rehearsal.clock import Clock
from rehearsal.project import NUMBER
from rehearsal.stage import Stage
from tests.lunation.rehearsed import PROJECT, Refuses, rehearsed, until

AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"


def agents() -> ServiceAgents:
    """The row."""
    return ServiceAgents("google")


def asked(stage: Stage) -> list[str]:
    """The requests that make one."""
    return [str(call.request) for call in stage.notes.calls if call.method.endswith("generateServiceIdentity")]


def test_agents_are_asked_for_once_and_given_their_roles(tmp_path: Path) -> None:
    """One that was asked for gets no role by itself; others' roles, also of this name, stay; destroy leaves them."""
    clock = Clock()
    words = f"Service account {AGENT.partition(':')[2]} does not exist."
    judge = Refuses("SetIamPolicy", ServiceError("INVALID_ARGUMENT", words), until(clock, 0))
    with rehearsed(tmp_path, judge) as (stage, clients):
        policy = policy_pb2.Policy(etag=b"0")
        policy.bindings.add(role="roles/pubsub.serviceAgent", members=["user:me@example.com"])
        stage.project.set_policy(f"projects/{PROJECT}", policy)
        judge._while = until(clock, 60)
        assert [change.action for change in apply([agents()], clients, wait=clock.sleep)] == ["create"]
        assert asked(stage) == [
            f"/v1beta1/projects/{PROJECT}/services/{api}:generateServiceIdentity" for api in sorted(AGENTS)
        ], "each once, however often the grant was tried"
        assert clock.now < 120, "all together, not one after the other"
        found = {binding.role: list(binding.members) for binding in project_policy().get(clients).bindings}
        assert found.pop("roles/pubsub.serviceAgent") == ["user:me@example.com", AGENT]
        assert found == {role: [agent(clients, api)] for api, (_, role) in AGENTS.items() if api != PUBSUB}
        assert [change.action for change in plan([agents()], clients)] == ["unchanged"]
        assert [change.action for change in destroy([agents()], clients)] == ["keep"]
        assert AGENT in str(project_policy().get(clients))


def test_an_agent_that_came_by_itself_is_left_alone(tmp_path: Path) -> None:
    """Google gave it its role when its service was first used."""
    with rehearsed(tmp_path) as (stage, clients):
        policy = policy_pb2.Policy(etag=b"0")
        policy.bindings.add(role="roles/pubsub.serviceAgent", members=[AGENT])
        stage.project.set_policy(f"projects/{PROJECT}", policy)
        (change,) = plan([agents()], clients)
        assert "pubsub.googleapis.com" not in {path for path, _, _ in change.fields}
        assert [change.action for change in apply([agents()], clients)] == ["change"]
        assert not [request for request in asked(stage) if PUBSUB in request]
        (binding,) = [one for one in project_policy().get(clients).bindings if one.role == "roles/pubsub.serviceAgent"]
        assert list(binding.members) == [AGENT]
