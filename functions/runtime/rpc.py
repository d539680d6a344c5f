"""One unary method of a Google service: its deadline, its routing header, and the retry of what may pass."""

import asyncio
import random
from typing import Any
from urllib.parse import urlencode

import grpc
import grpc.aio

Code = grpc.StatusCode

PASSING = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.ABORTED,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.RESOURCE_EXHAUSTED,
    }
)
"""Failures that a later attempt may not meet. All our calls are idempotent, so an ambiguous one is repeated."""


class RpcError(Exception):
    """A service refused, failed or could not be reached."""

    def __init__(self, method: str, code: grpc.StatusCode, details: str, attempts: int) -> None:
        super().__init__(f"{method} answered {code.name} after {attempts} attempts: {details}")
        self.code = code
        self.details = details


class Rpc:
    """A callable method, ``/google.datastore.v1.Datastore/Commit`` for example."""

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
        """``timeout`` is for each attempt, in seconds. ``routing`` tells Google's front end where the call goes."""
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
            RpcError: refused for good, or not answered in the last attempt either.
        """
        attempt = 1
        while True:
            try:
                return await self._call(request, timeout=self._timeout, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code not in PASSING or attempt >= self._attempts:
                    raise RpcError(self._method, code, error.details() or "", attempt) from None
            # Spread, so that instances that failed together do not come back together.
            await asyncio.sleep(0.1 * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            attempt += 1
