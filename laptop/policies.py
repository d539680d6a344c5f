"""IAM policies of resources: kept and handed out, as ``google.iam.v1.IAMPolicy`` answers them."""

import hashlib
from collections.abc import Callable

from google.iam.v1 import iam_policy_pb2, policy_pb2

from laptop.errors import ServiceError
from laptop.store import Store

SCHEMA = "CREATE TABLE IF NOT EXISTS policy (resource TEXT PRIMARY KEY, message BLOB NOT NULL);"


class Policies:
    """RPC handlers for policies.

    Args:
        store: a store whose schema includes :data:`SCHEMA`.
        check: raises NOT_FOUND for a resource that does not exist.
    """

    def __init__(self, store: Store, check: Callable[[str], object]) -> None:
        self._store = store
        self._check = check

    def members(self, resource: str, role: str) -> set[str]:
        """Who has ``role`` on ``resource``."""
        return {member for one in self.read(resource).bindings if one.role == role for member in one.members}

    def read(self, resource: str) -> policy_pb2.Policy:
        """The policy; an empty one, with an etag, if none was set."""
        rows = self._store.read("SELECT message FROM policy WHERE resource = ?", (resource,))
        policy = policy_pb2.Policy.FromString(rows[0]["message"]) if rows else policy_pb2.Policy(version=1)
        policy.etag = b""
        policy.etag = hashlib.sha256(policy.SerializeToString(deterministic=True)).digest()[:8]
        return policy

    async def get_iam_policy(self, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
        """The policy of a resource."""
        self._check(request.resource)
        return self.read(request.resource)

    async def set_iam_policy(self, request: iam_policy_pb2.SetIamPolicyRequest) -> policy_pb2.Policy:
        """Replace the policy, unless somebody else has changed it since the etag was read."""
        self._check(request.resource)
        if request.policy.etag and request.policy.etag != self.read(request.resource).etag:
            raise ServiceError("ABORTED", f"{request.resource}: the policy has changed since; read it again")
        row = (request.resource, request.policy.SerializeToString())
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO policy VALUES (?, ?) ON CONFLICT(resource) DO UPDATE SET message = excluded.message", row
            )
        )
        return self.read(request.resource)

    async def test_iam_permissions(
        self, request: iam_policy_pb2.TestIamPermissionsRequest
    ) -> iam_policy_pb2.TestIamPermissionsResponse:
        """All that was asked for: the one person on this machine may do everything."""
        self._check(request.resource)
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)
