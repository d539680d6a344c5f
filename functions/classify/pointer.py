"""Reads the pointer that names the serving model, and the history rows before it."""

import grpc.aio
from pydantic import ValidationError

from functions.runtime.datastore import Lookup
from functions.runtime.rpc import RpcError
from schemas import ModelPointer, ModelPromotion
from schemas.dead_letter import explain

SECONDS = 2.0
ATTEMPTS = 2
"""No more: whoever asks has an older answer, or will ask again. But no fewer: after a sleep the first one may only find
out that the connection is gone."""


class PointerUnavailableError(Exception):
    """Datastore could not be asked."""


class PointerUnreadableError(Exception):
    """The pointer is there and cannot be read."""


class Pointers:
    """The pointer of one use case."""

    def __init__(self, channel: grpc.aio.Channel, project: str, use_case: str) -> None:
        self._use_case = use_case
        self._lookup = Lookup(channel, project, timeout=SECONDS, attempts=ATTEMPTS)

    async def now(self) -> ModelPointer | None:
        """The pointer as it stands, or None before the first promotion.

        Raises:
            PointerUnavailableError: Datastore is out of reach.
            PointerUnreadableError: its properties do not fit.
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
        """The pointer as it stood at an older generation, from its history; None if that has no row.

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
