"""Least privilege in both directions, from what was recorded and what is granted."""

from typing import Any

import pytest
from google.cloud.iam_admin_v1 import types as iam
from google.cloud.monitoring_v3 import types as monitoring
from google.cloud.resourcemanager_v3 import types as resourcemanager
from google.iam.v1 import policy_pb2
from google.pubsub_v1 import types as pubsub

from lunation.deploy.accounts import account
from rehearsal import privileges
from rehearsal.authority import Authority
from rehearsal.project import Project
from rehearsal.recorder import Call

PUBLISH = "google.pubsub.v1.Publisher.Publish"
TOPIC = "projects/p/topics/records"


def authority(**roles: tuple[str, ...]) -> Authority:
    """A judge of a project in which ``submit`` has the custom roles given, on the project."""
    project = Project("p")
    email = account("p", "submit")
    name = f"projects/p/serviceAccounts/{email}"
    project.put(name, iam.ServiceAccount.pb()(name=name, email=email))
    policy = policy_pb2.Policy(version=1)
    for role_id, permissions in roles.items():
        role = f"projects/p/roles/{role_id}"
        project.put(role, iam.Role.pb()(name=role, included_permissions=permissions))
        policy.bindings.add(role=role, members=[f"serviceAccount:{email}"])
    project.policies["projects/p"] = policy
    return Authority(project)


def publishes(topic: str = TOPIC) -> Call:
    """What ``submit`` does."""
    return Call("submit", PUBLISH, pubsub.PublishRequest.pb()(topic=topic))


def test_a_unit_with_exactly_what_it_uses_lacks_nothing_and_has_nothing_too_much() -> None:
    """A permission on the project is one on what lies in it."""
    assert privileges.units([publishes()], authority(own=("pubsub.topics.publish",))) == ([], [])


def test_a_permission_that_no_call_used_is_superfluous_in_a_custom_role() -> None:
    """By its name, also under an older one, and also where it is none at all."""
    judge = authority(own=("pubsub.topics.publish", "datastore.indexes.list", "telemetry.metrics.write"))
    assert privileges.units([publishes()], judge) == (
        [],
        ["submit: datastore.schemas.list on project", "submit: telemetry.metrics.write on project"],
    )


def test_what_a_unit_used_and_is_not_given_is_missing() -> None:
    """Each permission once, however often it was used."""
    missing, superfluous = privileges.units([publishes(), publishes()], authority())
    assert (missing, superfluous) == (["submit: pubsub.topics.publish on topics/records"], [])


@pytest.mark.parametrize(("topic", "superfluous"), [(TOPIC, []), ("projects/p/topics/labels", [TOPIC])])
def test_a_predefined_role_is_taken_as_a_whole_and_where_it_is_granted(topic: str, superfluous: list[str]) -> None:
    """One permission of it that is needed there is enough; on another topic it is of no use."""
    judge = authority(own=("pubsub.topics.publish",))
    member = f"serviceAccount:{account('p', 'submit')}"
    del judge.project.policies["projects/p"]
    bindings = [policy_pb2.Binding(role="roles/pubsub.publisher", members=[member])]
    judge.project.policies[TOPIC] = policy_pb2.Policy(version=1, bindings=bindings)
    found = privileges.units([publishes(topic)], judge)
    assert found[1] == ["submit: roles/pubsub.publisher on topics/records" for _ in superfluous]
    assert bool(found[0]) == bool(superfluous)


def deployer(*calls: tuple[str, Any]) -> list[Call]:
    """What the deployer asks."""
    return [Call("deployer", method, request) for method, request in calls]


def test_the_documented_roles_are_held_against_what_was_needed_both_ways() -> None:
    """A permission that none of them gives; a role of which nothing was needed. What nearly every role carries makes
    none needed, and what others called is no need of the deployer's."""
    condition = monitoring.AlertPolicy.Condition(condition_matched_log={"filter": "x"})
    alert = monitoring.CreateAlertPolicyRequest(name="projects/p", alert_policy={"conditions": [condition]})
    calls = deployer(
        ("google.monitoring.v3.AlertPolicyService.CreateAlertPolicy", monitoring.CreateAlertPolicyRequest.pb(alert)),
        (
            "google.cloud.resourcemanager.v3.Projects.GetProject",
            resourcemanager.GetProjectRequest.pb()(name="projects/p"),
        ),
    )
    documented = ("roles/monitoring.alertPolicyEditor", "roles/run.admin", "roles/pubsub.admin")
    missing, superfluous = privileges.deployer([*calls, publishes()], authority(), documented)
    who = "lunation-deployer@p.iam.gserviceaccount.com"
    assert missing == [f"{who}: logging.notificationRules.create (AlertPolicyService.CreateAlertPolicy)"]
    assert superfluous == [f"{who}: roles/run.admin", f"{who}: roles/pubsub.admin"]
    enough = ("roles/monitoring.alertPolicyEditor", "roles/logging.configWriter")
    assert privileges.deployer(calls, authority(), enough) == ([], [])
