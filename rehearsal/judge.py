"""What a judge of the rehearsal is: it may refuse a call as Google would, and change what a service answers.

A recorder asks every judge of its stage before a call is answered, in order, and hands each the answer afterwards, in
the opposite order. So a judge sees the deployer's calls, those of the deployed units, and those of Google's own agents
alike, over gRPC, over REST, and over Cloud Storage's JSON API.
"""

from google.protobuf.message import Message

from rehearsal.recorder import Call


class Judge:
    """Refuses nothing and changes nothing: what a judge is made from."""

    def before(self, call: Call) -> None:
        """Look at a call that is in order in form, before it is answered.

        Raises:
            laptop.errors.ServiceError: the service refuses it; the caller is told so over its own protocol.
        """

    def after(self, call: Call, answer: Message) -> Message:
        """What the caller is told in place of ``answer``, which must not be changed itself."""
        return answer

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """What a caller of Cloud Storage's JSON API is told in place of ``body``."""
        return body
