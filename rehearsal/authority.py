"""Whether an account may do what it does, at the moment it does it: a judge by the policies that are in force by then.

Who calls is looked up in the policies of the resource and of what it lies in, up to the project; so is everybody else
who acts because of a call: a build account that reads its source, a service agent that signs a token. An account that
nobody has made may do nothing, and no policy may name it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.iam.v1 import policy_pb2
from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.type import expr_pb2

from laptop.errors import ServiceError, invalid
from lunation.deploy.accounts import account
from lunation.deploy.stack import UNITS
from rehearsal import agents, documented
from rehearsal.judge import Judge
from rehearsal.needs import Need, UnknownMethodError, needs, storage_path
from rehearsal.predefined import NOT_IN_A_PROJECT, PERMISSIONS, ROLES, current
from rehearsal.project import Project
from rehearsal.recorder import Call

_IAM = "google.iam.admin.v1.IAM"
_CLAUSE = re.compile(r'resource\.name(?: == "(?P<name>[^"]*)"|\.startsWith\("(?P<beginning>[^"]*)"\))')
_Key = tuple[str, str, str, str]  # a grant: the resource, the role, the member, the condition
_BASIC = {"projectViewer": "roles/viewer", "projectEditor": "roles/editor", "projectOwner": "roles/owner"}


@dataclass(frozen=True, order=True)
class Denial:
    """Something that an account was not allowed when it was needed.

    Args:
        account: whose, by its address.
        permission: what; empty for an account that nobody has made.
        resource: on what, up to the bucket for an object.
        method: the call that it was needed for.
    """

    account: str
    permission: str
    resource: str
    method: str

    def __str__(self) -> str:
        if not self.permission:
            return f"{self.account} does not exist, for nobody has made it: {self.method} on {self.resource}"
        return f"{self.account} lacks {self.permission} on {self.resource} ({self.method})"


class Authority(Judge):
    """Judges every call by the policies recorded up to it, so it has to see a project from its beginning.

    A grant is known at once, everywhere: that it takes minutes is another judge's to say.

    Args:
        project: whose accounts and roles there are, and where the policies of what it keeps are read.
        refuses: False only notes what would be refused, so that one run tells all there is.
    """

    def __init__(self, project: Project, *, refuses: bool = True) -> None:
        self.project = project
        self._refuses = refuses
        self._policies: dict[str, policy_pb2.Policy] = {}
        self._untouched: set[str] = set()
        self.accounts = accounts(project.project)
        """The address of each caller. Somebody else calls as the project's owner, who may do everything."""
        self.known: dict[str, Any] = {}
        """What calls have told of resources (:data:`rehearsal.needs.Known`)."""
        self.denied: dict[Denial, None] = {}
        """What was not allowed when it was needed, each once, in the order in which it was seen."""
        self.unknown: dict[str, list[str]] = {}
        """Permissions that no list of Google's has, each with the custom roles that name it."""
        self._void: set[_Key] = set()
        """What was granted to an account that was deleted: another one of its name has nothing of it."""

    # --- the judge

    def before(self, call: Call) -> None:
        """Refuse what is not allowed.

        Raises:
            laptop.errors.ServiceError: PERMISSION_DENIED, or INVALID_ARGUMENT for a permission, a role or a member
                that does not exist; UNIMPLEMENTED for a method of which nobody has written down what it needs.
        """
        try:
            wanted = needs(call, self.known, self.project.project)
        except UnknownMethodError as error:
            raise ServiceError("UNIMPLEMENTED", str(error)) from None
        caller = self.accounts.get(call.caller)
        # First the caller's own, as a service does; then what it asks for; then those who act because of it.
        for need in wanted:
            if not need.account and caller is not None:
                self._judge(need, caller, call)
        self._make_agents(call)
        self._judge_role(call)
        self._judge_policy(call)
        for need in wanted:
            if need.account:
                self._judge(need, need.account, call)

    def after(self, call: Call, answer: Message) -> Message:
        """Remember what the call has changed."""
        name = call.method.rpartition(".")[2]
        request: Any = call.request
        who = self.accounts.get(call.caller)
        if name == "TestIamPermissions" and who is not None:
            granted: Any = answer
            has = [one for one in granted.permissions if self.allows(who, one, request.resource)]
            return type(granted)(permissions=has)
        if name == "SetIamPolicy":
            self._set(request.resource, request.policy)
        elif name.startswith("Delete"):
            for _, value in request.ListFields():
                if isinstance(value, str):
                    self._forget(value)
            if name == "DeleteServiceAccount":
                self._void |= set(self._granted(f"serviceAccount:{request.name.rsplit('/', 1)[1]}"))
        if isinstance(answer, operations_pb2.Operation):
            self.known.setdefault(answer.name, call.method.rpartition(".")[0])
            # A workflow is told by the request: the operation's answer is seen by nobody but its caller.
            answered = getattr(request, "workflow", None)
        else:
            answered = answer
        if answered is not None and "/" in getattr(answered, "name", ""):
            kept = type(answered)()
            kept.CopyFrom(answered)
            self.known[kept.name] = kept
        return answer

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """Remember what the call has changed, and tell the policy of a new bucket as it is there."""
        if status >= 300:
            return body
        path = storage_path(call)
        match call.method:
            case "storage.buckets.insert":
                self._new_bucket(json.loads(call.body))
            case "storage.buckets.delete" | "storage.objects.delete":
                self._forget(path)
            case "storage.objects.insert" if not path.endswith("/objects/"):  # the end of an upload has no name
                self.known[path] = True
            case "storage.buckets.setIamPolicy":
                self._untouched.discard(path)
                self._set(path, _of_json(json.loads(call.body)))
            case "storage.buckets.getIamPolicy" if path in self._untouched:
                return self._with_convenience(path, body)
        return body

    # --- permissions

    def allows(self, who: str, permission: str, resource: str) -> bool:
        """Whether the account of the address ``who`` may do that now."""
        if not self._exists(who):
            return False
        for place in (*_ancestors(resource), f"projects/{self.project.project}"):
            policy = self._policy(place)
            for binding in policy.bindings if policy is not None else ():
                for member in binding.members:
                    if (
                        self._is(who, member)
                        and permission in self.gives(binding.role)
                        and (place, binding.role, member, binding.condition.expression) not in self._void
                        and holds(binding.condition, resource)
                    ):
                        return True
        return False

    def grants(self) -> Iterator[tuple[str, policy_pb2.Binding]]:
        """Every binding in force, with the resource whose policy has it."""
        for resource in sorted({*self._policies, *self.project.policies}):
            policy = self._policy(resource)
            for binding in policy.bindings if policy is not None else ():
                yield resource, binding

    def gives(self, role: str) -> frozenset[str]:
        """The permissions of a role, by the names they have today.

        Raises:
            laptop.errors.ServiceError: INVALID_ARGUMENT, for a predefined role that the rehearsal does not know.
        """
        if not role.startswith("projects/"):
            if role not in ROLES:
                raise invalid(f"Role {role} is not known here: add what it gives to rehearsal/predefined.py")
            return ROLES[role]
        kept = self.project.things.get(role)
        if kept is None or kept.deleted:
            return frozenset()
        return frozenset(current(one) for one in kept.included_permissions)

    def _granted(self, member: str) -> Iterator[_Key]:
        """What a member is granted anywhere."""
        for place, binding in self.grants():
            if member in binding.members:
                yield place, binding.role, member, binding.condition.expression

    def _is(self, who: str, member: str) -> bool:
        kind, _, name = member.partition(":")
        if kind in _BASIC and name == self.project.project:
            policy = self._policy(f"projects/{name}")
            return policy is not None and any(
                binding.role == _BASIC[kind] and f"serviceAccount:{who}" in binding.members
                for binding in policy.bindings
            )
        return member == f"serviceAccount:{who}"

    def _exists(self, who: str) -> bool:
        """Whether an account of the project, or a service agent, has been made."""
        if who.endswith(f"@{self.project.project}.iam.gserviceaccount.com"):
            return f"projects/{self.project.project}/serviceAccounts/{who}" in self.project.things
        return not who.startswith("service-") or who in self.project.agents

    def _policy(self, resource: str) -> policy_pb2.Policy | None:
        return self.project.policies.get(resource) or self._policies.get(resource)

    # --- judging

    def _judge(self, need: Need, who: str, call: Call) -> None:
        if self.allows(who, need.permission, need.resource) or self._not_there(need):
            return
        short = need.resource.partition("/objects/")[0]
        permission = need.permission if self._exists(who) else ""
        denial = Denial(who, permission, short, _method(call))
        if need.must:
            self.denied.setdefault(denial)
        if self._refuses and not need.follows and (need.must or not need.account):
            raise _refusal(need, who)

    def _not_there(self, need: Need) -> bool:
        """Whether it is about a bucket that does not exist: everybody is told so."""
        bucket = need.resource.partition("/objects/")[0]
        ours = bucket.startswith("projects/_/buckets/") and "/gcf-v2-sources-" not in bucket
        return ours and bucket not in self._policies

    def _judge_role(self, call: Call) -> None:
        """CreateRole and UpdateRole refuse a permission that does not exist, or that a project's role cannot hold."""
        if call.method not in (f"{_IAM}.CreateRole", f"{_IAM}.UpdateRole"):
            return
        request: Any = call.request
        role = getattr(request, "role_id", "") or request.name.rsplit("/", 1)[1]
        for permission in request.role.included_permissions:
            if current(permission) not in PERMISSIONS - NOT_IN_A_PROJECT:
                holders = self.unknown.setdefault(permission, [])
                if role not in holders:
                    holders.append(role)
                if self._refuses:
                    raise invalid(f"Permission {permission} is not valid.")

    def _judge_policy(self, call: Call) -> None:
        """A policy names roles and accounts that there are."""
        if call.method == "storage.buckets.setIamPolicy":
            resource, policy = storage_path(call), _of_json(json.loads(call.body))
        elif call.method.endswith(".SetIamPolicy"):
            request: Any = call.request
            resource, policy = request.resource, request.policy
        else:
            return
        judged = {f"serviceAccount:{one}" for one in self.accounts.values()}
        for binding in policy.bindings:
            for member in binding.members:
                who = member.removeprefix("serviceAccount:")
                if who != member and not self._exists(who):
                    self.denied.setdefault(Denial(who, "", resource, _method(call)))
                    if self._refuses:
                        raise invalid(f"Service account {who} does not exist.")
            if judged & set(binding.members):  # what others are given is nothing that has to be understood
                holds(binding.condition, resource)
                kept = self.project.things.get(binding.role)
                if binding.role.startswith("projects/") and (kept is None or kept.deleted) and self._refuses:
                    raise invalid(f"Role {binding.role} does not exist in the resource's hierarchy.")
                self.gives(binding.role)

    # --- remembering

    def _set(self, resource: str, policy: policy_pb2.Policy) -> None:
        """Keep a policy. What it grants is granted anew, also to an account that has taken a deleted one's name."""
        kept = policy_pb2.Policy()
        kept.CopyFrom(policy)
        self._policies[resource] = kept
        self._void = {key for key in self._void if key[0] != resource}

    def _forget(self, name: str) -> None:
        """What is deleted takes its policy, and what lies in it, along; an account, what it was granted."""
        for mine in (self.known, self._policies):
            for key in [key for key in mine if key == name or key.startswith(f"{name}/")]:
                del mine[key]  # type: ignore[attr-defined]

    def _make_agents(self, call: Call) -> None:
        for agent in agents.made_by(call):
            if agent.email not in self.project.agents:
                self.project.agents.add(agent.email)
                self._grant(agent.role, agent.email)
        wanted = agents.asked_for(call)
        if wanted is not None:
            self.project.agents.add(wanted.email)

    def _grant(self, role: str, email: str) -> None:
        """Google gives an agent its role on the project, where everybody sees it."""
        place = f"projects/{self.project.project}"
        policy = policy_pb2.Policy(version=1)
        policy.CopyFrom(self.project.policies.get(place, policy))
        binding = next((one for one in policy.bindings if one.role == role and not one.HasField("condition")), None)
        (binding if binding is not None else policy.bindings.add(role=role)).members.append(f"serviceAccount:{email}")
        policy.etag = policy.etag + b"+"
        self.project.policies[place] = policy

    def _new_bucket(self, bucket: dict[str, Any]) -> None:
        """Cloud Storage lets the holders of the project's basic roles in; the objects, too, if the bucket has uniform
        access from the start (https://cloud.google.com/storage/docs/access-control/iam-roles#basic-roles-modifiable).
        """
        policy = policy_pb2.Policy(version=1)
        uniform = bucket.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled", False)
        for kind in ("Bucket", "Object") if uniform else ("Bucket",):
            owners = [f"projectEditor:{self.project.project}", f"projectOwner:{self.project.project}"]
            policy.bindings.add(role=f"roles/storage.legacy{kind}Owner", members=owners)
            viewers = [f"projectViewer:{self.project.project}"]
            policy.bindings.add(role=f"roles/storage.legacy{kind}Reader", members=viewers)
        name = f"projects/_/buckets/{bucket['name']}"
        self._policies[name] = policy
        self._untouched.add(name)

    def _with_convenience(self, bucket: str, body: bytes) -> bytes:
        """A new bucket's policy, with what Cloud Storage has put into it."""
        told = json.loads(body)
        bindings = told.setdefault("bindings", [])
        have = {one["role"] for one in bindings}
        bindings += [
            {"role": binding.role, "members": list(binding.members)}
            for binding in self._policies[bucket].bindings
            if binding.role not in have
        ]
        return json.dumps(told).encode()


def summary(denied: Iterable[Denial]) -> Iterator[str]:
    """Lines to read: of an account that was denied much, the first of it and how much more."""
    by_account: dict[str, list[Denial]] = {}
    for one in denied:
        by_account.setdefault(one.account, []).append(one)
    for all_of_it in by_account.values():
        shown = all_of_it if len(all_of_it) <= 5 else all_of_it[:3]
        yield from map(str, shown)
        if len(all_of_it) > len(shown):
            yield f"{all_of_it[0].account}, and {len(all_of_it) - len(shown)} more of the kind"


def accounts(project: str) -> dict[str, str]:
    """The address of each caller: the units, and those whom the documents have made by hand."""
    return {
        "deployer": documented.address(documented.DEPLOYER, project),
        "planner": documented.address(documented.PLANNER, project),
        **{unit: account(project, unit) for unit in UNITS},
    }


def holds(condition: expr_pb2.Expr, resource: str) -> bool:
    """Whether a condition is true of ``resource``. Of the language of conditions, this reads what a name is or begins
    with, joined by ``||``.

    Raises:
        laptop.errors.ServiceError: INVALID_ARGUMENT, for any other expression.
    """
    if not condition.expression:
        return True
    found = False
    for clause in condition.expression.split(" || "):
        told = _CLAUSE.fullmatch(clause.strip())
        if told is None:
            raise invalid(f"{condition.title}: rehearsal/authority.py reads resource.name only, and not {clause!r}")
        beginning = told["beginning"]
        found |= resource == told["name"] if beginning is None else resource.startswith(beginning)
    return found


def _ancestors(resource: str) -> Iterator[str]:
    """The resource, and all that it may lie in, by their names."""
    parts = resource.split("/")
    for length in range(len(parts), 1, -1):
        yield "/".join(parts[:length])


def _of_json(document: dict[str, Any]) -> policy_pb2.Policy:
    """A policy of Cloud Storage's."""
    policy = policy_pb2.Policy()
    for one in document.get("bindings", ()):
        condition = expr_pb2.Expr(**one["condition"]) if one.get("condition") else None
        policy.bindings.add(role=one["role"], members=one["members"], condition=condition)
    return policy


def _method(call: Call) -> str:
    """Its last two parts: the interface and the method."""
    return ".".join(call.method.split(".")[-2:])


def _refusal(need: Need, who: str) -> ServiceError:
    """In the words of the service that refuses."""
    if need.permission.startswith("storage."):
        kind = "bucket" if need.permission.startswith("storage.buckets.") else "object"
        words = (
            f"{who} does not have {need.permission} access to the Google Cloud Storage {kind}. Permission "
            f"'{need.permission}' denied on resource (or it may not exist)."
        )
    else:
        words = f"Permission '{need.permission}' denied on resource '{need.resource}' (or it may not exist)."
    if need.by == "cloudbuild" and "/gcf-v2-sources-" in need.resource:
        # https://github.com/hashicorp/terraform-provider-google/issues/20571
        bucket = need.resource.split("/")[3]
        words = f"Access to bucket {bucket} denied. You must grant Storage Object Viewer permission to {who}."
        return ServiceError("INTERNAL", f"Build failed with status: FAILURE and message: failed to Fetch: {words}")
    if need.by == "cloudbuild" and need.permission.startswith("storage."):
        # https://cloud.google.com/build/docs/troubleshooting: the build is not even made.
        return invalid(f"could not resolve source: googleapi: Error 403: {words}, forbidden")
    if need.by == "dataproc" and need.permission.startswith("dataproc."):
        return invalid(f"Service account '{who}' is missing required permissions: [{need.permission}].")
    told = error_details_pb2.ErrorInfo(
        reason="IAM_PERMISSION_DENIED",
        domain="iam.googleapis.com",
        metadata={"permission": need.permission, "resource": need.resource},
    )
    return ServiceError("PERMISSION_DENIED", words, told)
