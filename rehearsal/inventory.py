"""All that there is in a rehearsed project, by name, byte for byte: what two looks can be compared by.

Etags are left out: a service may give another one to what has not changed.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from google.api_core.exceptions import NotFound
from google.iam.v1 import iam_policy_pb2, policy_pb2

from lunation.clients import Clients
from rehearsal.project import Project

Found = dict[str, bytes]


def everything(project: Project, clients: Clients) -> Found:
    """What there is now.

    Args:
        project: keeps what the laptop does not serve.
        clients: ask the laptop's servers, past every recorder.
    """
    found: Found = {}
    for name, thing in dict(project.things).items():
        found[f"{type(thing).DESCRIPTOR.name} {name}"] = content(thing)
    for resource, policy in dict(project.policies).items():
        found |= members(resource, policy)
    for name, thing in _served(clients):
        found[f"{type(thing).__name__} {name}"] = content(thing)
    for resource, policy in _policies(clients):
        found |= members(resource, policy)
    for bucket in clients.storage.list_buckets():
        found[f"Bucket {bucket.name}"] = _properties(bucket)
        for blob in clients.storage.list_blobs(bucket.name):
            found[f"Object gs://{bucket.name}/{blob.name}"] = _properties(blob)
        for binding in bucket.get_iam_policy(requested_policy_version=3).bindings:
            condition = json.dumps(binding.get("condition"), sort_keys=True)
            for member in binding["members"]:
                found[f"access to gs://{bucket.name}: {binding['role']} {member} {condition}"] = b""
    for entity in clients.datastore.query().fetch():
        found[f"Entity {entity.key.flat_path}"] = json.dumps(dict(entity), sort_keys=True, default=str).encode()
    return found


def content(thing: Any) -> bytes:
    """A message of either kind as bytes, without its etag."""
    plain = type(thing)()
    plain._pb.CopyFrom(thing._pb) if hasattr(thing, "_pb") else plain.CopyFrom(thing)
    plain = getattr(plain, "_pb", plain)
    if "etag" in plain.DESCRIPTOR.fields_by_name:
        plain.ClearField("etag")
    return plain.SerializeToString(deterministic=True)


def members(resource: str, policy: policy_pb2.Policy) -> Found:
    """Each member by its role and condition, and what of the use of the resource is logged."""
    found = {
        f"access to {resource}: {binding.role} {member} {binding.condition.title}".rstrip()
        + (f" ({binding.condition.expression})" if binding.HasField("condition") else ""): content(binding.condition)
        for binding in policy.bindings
        for member in binding.members
    }
    for one in policy.audit_configs:
        found[f"audit of {resource}: {one.service}"] = content(one)
    return found


def _served(clients: Clients) -> Iterator[tuple[str, Any]]:
    project, region = f"projects/{clients.project}", clients.target.region
    yield from _named(clients.publisher.list_topics(project=project))
    yield from _named(clients.subscriber.list_subscriptions(project=project))
    yield from _named(clients.functions.list_functions(parent=clients.location))
    for workflow in clients.workflows.list_workflows(parent=clients.location):
        yield workflow.name, clients.workflows.get_workflow(name=workflow.name)
    yield from _named(clients.scheduler.list_jobs(parent=clients.location))
    parent = f"{project}/regions/{region}"
    yield from _named(clients.workflow_templates.list_workflow_templates(parent=parent))
    for index in clients.datastore_admin.list_indexes(request={"project_id": clients.project}):
        properties = ", ".join(f"{one.name} {one.direction.name}" for one in index.properties)
        yield f"{index.kind}({properties}) {index.index_id}", index


def _named(things: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    yield from ((thing.name, thing) for thing in things)


def _policies(clients: Clients) -> Iterator[tuple[str, policy_pb2.Policy]]:
    project = f"projects/{clients.project}"
    topics = [(clients.publisher, one.name) for one in clients.publisher.list_topics(project=project)]
    subscriptions = [(clients.subscriber, one.name) for one in clients.subscriber.list_subscriptions(project=project)]
    services = [
        (clients.run_services, one.name.replace("/functions/", "/services/"))
        for one in clients.functions.list_functions(parent=clients.location)
    ]
    for client, resource in (*topics, *subscriptions, *services):
        try:
            yield resource, client.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=resource))
        except NotFound:  # deleted a moment ago
            continue


def _properties(thing: Any) -> bytes:
    known = thing._properties  # noqa: SLF001  # what the client read; it has no method for all of it
    kept = {key: value for key, value in known.items() if key != "etag"}
    return json.dumps(kept, sort_keys=True).encode()
