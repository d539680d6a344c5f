"""Gives back what is read as Google's services do: normalised, filled in and rewritten, in an order of its own.

What changes is said by :mod:`rehearsal.normal_forms`. So a plan after a deployment is held against reads as Google
gives them. :meth:`Rewrites.breaks` puts a thing into a bad state, too (:mod:`rehearsal.bad_states`).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from laptop.errors import invalid
from rehearsal.bad_states import BAD
from rehearsal.judge import Judge
from rehearsal.normal_forms import POLICY, REWRITES, Rewrite
from rehearsal.policy_writes import bucket_of, written
from rehearsal.project import Project
from rehearsal.recorder import Call

FULL_SCHEMA = 2
"""google.pubsub.v1.SchemaView"""
ACTIVE_JOBS = 3
"""google.dataflow.v1beta3.ListJobsRequest.Filter"""


class Rewrites(Judge):
    """Gives back what is read as the services do.

    Args:
        project: its accounts tell which members of a policy are still those that were meant.
        rewrites: what changes.
    """

    def __init__(self, project: Project, rewrites: Iterable[Rewrite] = REWRITES) -> None:
        self._project = project
        self._by_kind: dict[str, list[Rewrite]] = {}
        for one in rewrites:
            self._by_kind.setdefault(one.kind, []).append(one)
        self._broken: dict[str, tuple[str, str]] = {}
        self._meant: dict[tuple[str, str, str], str] = {}

    def breaks(self, name: str, state: str) -> None:
        """From now on the thing is in a bad state.

        Args:
            name: what it is called: in the API if one chooses that (``projects/…/functions/f``, a job's name), else the
                id that the service gave it.
            state: one of :data:`BAD`, by its name; empty: it is well again.
        """
        if not state:
            self._broken.pop(name, None)
            return
        field = next(bad.field for bad in BAD if bad.state == state)
        self._broken[name] = (field, state)

    # --- judging

    def before(self, call: Call) -> None:
        """Whatever makes or changes a thing mends it; a grant to somebody who shares the name of a deleted one fails.

        Raises:
            laptop.errors.ServiceError: INVALID_ARGUMENT, as
                https://github.com/GoogleCloudPlatform/magic-modules/blob/main/mmv1/third_party/terraform/website/docs/guides/iam_deleted_members.html.markdown
                says: "attempting to grant permissions to a principal that shares an email with a `deleted:` principal
                on the same policy will result in an error".
        """
        for resource, bindings in written(call):
            members = {member for _, member in bindings}
            for member in members:
                if member.startswith("deleted:") and _alive(member) in members:
                    raise invalid(f"{resource}: {_alive(member)} shares its name with {member}; remove that first")
        if isinstance(call.request, Message) and _verb(call) in ("Create", "Update", "Delete"):
            for name in _names(call.request):
                self._broken.pop(name, None)

    def after(self, call: Call, answer: Message) -> Message:
        """The answer as the service would give it."""
        for resource, bindings in written(call):
            self._remember(resource, bindings)
        told = type(answer)()
        told.CopyFrom(answer)
        if isinstance(told, operations_pb2.Operation):
            self._operation(told)
            return told
        for thing in (told, *_listed(told)):
            self._rewrite(thing, getattr(call.request, "resource", ""))
        if _verb(call) == "List":
            _turn_around(told, self._by_kind)
            self._leave_out(call, told)
        return told

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """The same for Cloud Storage, whose list of buckets is sorted, and stays so."""
        if status != 200 or not call.method.startswith("storage.buckets."):
            return body
        for resource, bindings in written(call):
            self._remember(resource, bindings)
        document = json.loads(body)
        for thing in (document, *document.get("items", ())):
            for rewrite in self._by_kind.get(thing.get("kind", ""), ()):
                rewrite.change(thing, self._project)
            if thing.get("kind") == "storage#policy":
                resource = f"bucket/{bucket_of(call)}"
                for binding in thing["bindings"]:
                    binding["members"] = [self._now(resource, binding["role"], one) for one in binding["members"]]
        return json.dumps(document).encode()

    # --- changing

    def _operation(self, operation: operations_pb2.Operation) -> None:
        """What an operation ends with is a thing that is read, too."""
        if not operation.HasField("response"):
            return
        kind = operation.response.TypeName()
        if kind not in self._by_kind:
            return
        descriptor = descriptor_pool.Default().FindMessageTypeByName(kind)
        thing = message_factory.GetMessageClass(descriptor)()
        operation.response.Unpack(thing)
        self._rewrite(thing, "")
        operation.response.Pack(thing)

    def _rewrite(self, thing: Any, resource: str) -> None:
        kind = thing.DESCRIPTOR.full_name
        for rewrite in self._by_kind.get(kind, ()):
            rewrite.change(thing, self._project)
        if kind == POLICY:
            for binding in thing.bindings:
                members = [self._now(resource, binding.role, member) for member in binding.members]
                del binding.members[:]
                binding.members.extend(members)
        for name in _names(thing) if self._broken else ():
            if name in self._broken:
                _set(thing, *self._broken[name])

    def _leave_out(self, call: Call, answer: Any) -> None:
        """What a list does not tell of a thing, though reading it does; a job that failed is no active one.

        As the discovery documents say: ListRoles has a view, of which the default is BASIC; ListSchemas gives "Schemas
        with name and type, but not definition" unless FULL is asked for; Dataflow's jobs.list "always returns summaries
        now": name, type, status, times and the version of the SDK.
        """
        request: Any = call.request
        match call.method.rsplit(".", 1)[1]:
            case "ListRoles" if not request.view:
                for role in answer.roles:
                    role.ClearField("included_permissions")
            case "ListSchemas" if request.view != FULL_SCHEMA:
                for schema in answer.schemas:
                    schema.ClearField("definition")
            case "ListJobs" if hasattr(answer, "failed_location"):
                kept = [job for job in answer.jobs if request.filter != ACTIVE_JOBS or job.name not in self._broken]
                kept = [type(job).FromString(job.SerializeToString()) for job in kept]
                for job in kept:
                    job.ClearField("labels")
                del answer.jobs[:]
                answer.jobs.extend(kept)

    def _remember(self, resource: str, bindings: set[tuple[str, str]]) -> None:
        """Whom the members of a policy are: an address may be somebody else's later."""
        kept = {key: uid for key, uid in self._meant.items() if key[0] != resource}
        for role, member in bindings:
            uid = self._project.uid(member.removeprefix("serviceAccount:"))
            if uid is not None:
                kept[resource, role, member] = uid
        self._meant = kept

    def _now(self, resource: str, role: str, member: str) -> str:
        """How a member reads: with its id, once the account that was meant is gone."""
        meant = self._meant.get((resource, role, member))
        email = member.removeprefix("serviceAccount:")
        if meant is None or self._project.uid(email) == meant:
            return member
        return f"deleted:{member}?uid={meant}"


# --- helpers


def _verb(call: Call) -> str:
    name = call.method.rsplit(".", 1)[1]
    return next((verb for verb in ("Create", "Update", "Delete", "List", "Get") if name.startswith(verb)), "")


def _listed(message: Any) -> Iterator[Any]:
    """The messages in the lists of an answer."""
    for field, value in message.ListFields():
        if field.is_repeated and field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from value


def _turn_around(answer: Any, kinds: Iterable[str]) -> None:
    """No service promises the order of a list of ours."""
    for field, value in answer.ListFields():
        if field.is_repeated and field.message_type is not None and field.message_type.full_name in kinds:
            turned = list(reversed([type(one).FromString(one.SerializeToString()) for one in value]))
            del value[:]
            value.extend(turned)


def _names(message: Any) -> Iterator[str]:
    """What a thing, or a request about one, calls it."""
    for field, value in message.ListFields():
        if field.name in ("name", "subscription", "index_id") and isinstance(value, str):
            yield value
        elif field.message_type is not None and not field.is_repeated:
            inner = value.DESCRIPTOR.fields_by_name.get("name")
            if inner is not None and isinstance(value.name, str) and value.name:
                yield value.name


def _set(thing: Any, path: str, state: str) -> None:
    *outer, field = path.split(".")
    for part in outer:
        thing = getattr(thing, part)
    declared = thing.DESCRIPTOR.fields_by_name.get(field)
    if declared is not None and state in declared.enum_type.values_by_name:
        setattr(thing, field, declared.enum_type.values_by_name[state].number)


def _alive(member: str) -> str:
    """What a deleted member was called."""
    return member.removeprefix("deleted:").partition("?")[0]
