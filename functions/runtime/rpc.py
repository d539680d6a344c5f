"""Calls one unary method of a Google service, with a deadline, a routing header and retries of transient failures."""

import asyncio
import random
from typing import Any
from urllib.parse import urlencode

import grpc
import grpc.aio

Code = grpc.StatusCode

TRANSIENT = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.ABORTED,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.RESOURCE_EXHAUSTED,
    }
)
"""Status codes after which a call is repeated. All calls of the functions are idempotent, so a call with an unknown
outcome is repeated, too."""


class RpcError(Exception):
    """The service refused the call, failed, or could not be reached."""

    def __init__(self, method: str, code: grpc.StatusCode, details: str, attempts: int) -> None:
        super().__init__(f"{method} answered {code.name} after {attempts} attempts: {details}")
        self.code = code
        self.details = details


class Rpc:
    """A callable for one method, such as ``/google.datastore.v1.Datastore/Commit``."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        method: str,
        response_type: Any,
        *,
        routing: dict[str, str],
        timeout: float = 4.0,
        attempts: int = 3,
    ) -> None:
        """Configure the call.

        Args:
            channel: the channel to the service.
            method: the full name of the method.
            response_type: the protobuf class of the response.
            routing: the fields by which Google's front end routes the call (``x-goog-request-params``).
            timeout: deadline, in seconds, of each attempt.
            attempts: limit for the number of attempts.
        """
        self._method = method
        self._call = channel.unary_unary(
            method,
            response_deserializer=response_type.FromString,
        )
        self._metadata = (("x-goog-request-params", urlencode(routing, safe="/")),)
        self._timeout = timeout
        self._attempts = attempts

    async def __call__(self, request: bytes) -> Any:
        """Send the serialized ``request`` and return the response.

        Raises:
            RpcError: the service refused the call permanently, or the last attempt failed too.
        """
        attempt = 1
        while True:
            try:
                return await self._call(request, timeout=self._timeout, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code not in TRANSIENT or attempt >= self._attempts:
                    raise RpcError(self._method, code, error.details() or "", attempt) from None
            # The jitter keeps instances that failed together from retrying together.
            await asyncio.sleep(0.1 * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            attempt += 1
