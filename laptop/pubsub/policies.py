"""IAM policies of topics and subscriptions: kept, not enforced."""

from google.iam.v1 import iam_policy_pb2, policy_pb2

from laptop.errors import ServiceError, not_found
from laptop.pubsub.broker import Broker


class Policies:
    """Answers google.iam.v1.IAMPolicy."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def set_iam_policy(self, request: iam_policy_pb2.SetIamPolicyRequest) -> policy_pb2.Policy:
        """Keep a policy, if nobody changed it since its etag was read."""
        self._check(request.resource)
        blob_of = request.policy.SerializeToString

        def work(connection) -> policy_pb2.Policy:  # type: ignore[no-untyped-def]
            row = connection.execute("SELECT body FROM policies WHERE resource = ?", (request.resource,)).fetchone()
            known = policy_pb2.Policy.FromString(row[0]) if row else _EMPTY
            if request.policy.etag and request.policy.etag != known.etag:
                raise ServiceError(
                    "ABORTED",
                    f"{request.resource}: there were concurrent policy changes. Read the policy anew and change that",
                )
            policy = policy_pb2.Policy.FromString(blob_of())
            policy.etag = (int.from_bytes(known.etag, "big") + 1).to_bytes(8, "big")
            connection.execute(
                "INSERT OR REPLACE INTO policies VALUES (?, ?)", (request.resource, policy.SerializeToString())
            )
            return policy

        return await self._broker.store.write(work)

    async def get_iam_policy(self, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
        """The policy; an empty one if none was set."""
        self._check(request.resource)
        rows = self._broker.store.read("SELECT body FROM policies WHERE resource = ?", (request.resource,))
        return policy_pb2.Policy.FromString(rows[0]["body"]) if rows else _EMPTY

    async def test_iam_permissions(
        self, request: iam_policy_pb2.TestIamPermissionsRequest
    ) -> iam_policy_pb2.TestIamPermissionsResponse:
        """All of them: whoever reaches a loopback port owns the machine."""
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)

    def _check(self, resource: str) -> None:
        if resource not in self._broker.topics and resource not in self._broker.subscriptions:
            raise not_found(resource)


_EMPTY = policy_pb2.Policy(etag=(0).to_bytes(8, "big"))
