"""Reads the pointer that names the serving model, and its history."""

import grpc.aio
from pydantic import ValidationError

from functions.runtime.datastore import Lookup
from functions.runtime.rpc import RpcError
from schemas import ModelPointer, ModelPromotion
from schemas.dead_letter import explain

SECONDS = 2.0
"""Timeout, in seconds, of one attempt to read the pointer."""
ATTEMPTS = 2
"""Limit for the attempts to read the pointer. More are not needed: a caller has an older pointer or will ask again. One
would be too few: after an idle period, the first attempt may only discover that the connection is gone."""


class PointerUnavailableError(Exception):
    """Datastore is unavailable, so the pointer could not be read."""


class PointerUnreadableError(Exception):
    """The pointer exists and has invalid properties."""


class Pointers:
    """Reads the pointer of one use case."""

    def __init__(self, channel: grpc.aio.Channel, project: str, use_case: str) -> None:
        self._use_case = use_case
        self._lookup = Lookup(channel, project, timeout=SECONDS, attempts=ATTEMPTS)

    async def now(self) -> ModelPointer | None:
        """Return the current pointer, or None before the first promotion.

        Raises:
            PointerUnavailableError: Datastore is unavailable.
            PointerUnreadableError: the pointer's properties are invalid.
        """
        try:
            found = await self._lookup.one("ModelPointer", self._use_case)
        except RpcError as error:
            raise PointerUnavailableError(f"Datastore is out of reach: {error}") from None
        except TypeError as error:
            raise PointerUnreadableError(f"ModelPointer {self._use_case}: {error}") from None
        if found is None:
            return None
        try:
            return ModelPointer.model_validate(found)
        except ValidationError as error:
            raise PointerUnreadableError(f"ModelPointer {self._use_case}: {explain(error)}") from None

    async def at(self, generation: int) -> ModelPointer | None:
        """Return the pointer of an older generation from its history, or None if the history has no such row.

        Raises:
            PointerUnavailableError, PointerUnreadableError: as :meth:`now`.
        """
        name = ModelPromotion.key_name(self._use_case, generation)
        try:
            found = await self._lookup.one("ModelPromotion", name)
            return None if found is None else ModelPointer.model_validate(found)
        except RpcError as error:
            raise PointerUnavailableError(f"Datastore is out of reach: {error}") from None
        except (TypeError, ValidationError) as error:
            raise PointerUnreadableError(f"ModelPromotion {name}: {explain(error)}") from None
