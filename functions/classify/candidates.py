"""The models that the pointer names beside the served one: loaded in the background, dropped when no longer named.

Nothing here can harm the served model: loading is not waited for by any request, and a candidate that does not load in
its time, or fails at a record, is dropped and tried again later, with growing pauses.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions.runtime.log import log
from schemas import ModelPointer, NamedModel

from .loading import SECONDS as LOAD_SECONDS
from .loading import Load, Loader

if TYPE_CHECKING:
    from .model import Model

RETRY_PAUSE_SECONDS = (2.0, 60.0)
"""First and longest pause before a candidate that failed is tried again."""
STILL_NAMED_CHECK_SECONDS = 1.0
"""Between two looks whether a candidate that loads is still named."""


@dataclass(slots=True)
class _Failure:
    reason: str
    pause: float
    retry_at: float
    load: Load | None
    """What is perhaps still at work in its thread."""


class Candidates:
    """Loaded candidates, by the hash of their manifest. To be used inside one event loop."""

    def __init__(
        self,
        load: Loader,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        """``changed`` is called after a candidate was loaded or dropped."""
        self._load = load
        self._changed = changed
        self._clock = clock
        self._load_seconds = load_seconds
        self._named: dict[str, NamedModel] = {}
        self._models: dict[str, Model] = {}
        self._failures: dict[str, _Failure] = {}
        self._loading: asyncio.Task[None] | None = None
        self._current: Load | None = None

    def follow(self, pointer: ModelPointer) -> None:
        """Forget what the pointer no longer names, and start loading what it does, without waiting."""
        self._named = {
            named.manifest_sha256: named
            for named in (pointer.canary, pointer.shadow)
            if named is not None and named.manifest_sha256 != pointer.manifest_sha256
        }
        for held in (self._models, self._failures):
            for sha256 in held.keys() - self._named.keys():
                del held[sha256]
        if self._current is not None and self._current.named.manifest_sha256 not in self._named:
            self._current.give_up()
        if self._loading is None and self._due():
            self._loading = asyncio.create_task(self._load_due())

    def model(self, manifest_sha256: str) -> "Model | None":
        """The loaded model with this manifest."""
        return self._models.get(manifest_sha256)

    def drop(self, manifest_sha256: str, error: Exception) -> None:
        """Stop using a candidate that failed at a record, for a while."""
        if self._models.pop(manifest_sha256, None) is not None:
            self._note_failure(self._named[manifest_sha256], error, None)
            self._changed()

    def report(self, named: NamedModel) -> dict[str, Any]:
        """How this candidate stands, for ``GET /v1/model``."""
        failure = self._failures.get(named.manifest_sha256)
        loaded = named.manifest_sha256 in self._models
        return {
            "model_version": named.model_version,
            "state": "loaded" if loaded else "refused" if failure else "loading",
            "trouble": None if loaded or failure is None else failure.reason,
        }

    def _due(self) -> list[NamedModel]:
        now = self._clock()
        return [
            named
            for sha256, named in self._named.items()
            if sha256 not in self._models
            and (sha256 not in self._failures or self._may_retry(self._failures[sha256], now))
        ]

    def _may_retry(self, failure: _Failure, now: float) -> bool:
        return failure.retry_at <= now and (failure.load is None or not failure.load.running)

    async def _load_due(self) -> None:
        try:
            while due := self._due():
                named = due[0]
                load = self._current = Load(self._load, named, self._load_seconds)
                try:
                    while not await load.ended(STILL_NAMED_CHECK_SECONDS) and named.manifest_sha256 in self._named:
                        pass
                    if load.running:
                        continue  # given up by :meth:`follow`: the pointer has moved on meanwhile
                    model = load.result()
                except Exception as error:
                    # Whatever it was, this candidate is not used, and an event says so.
                    if named.manifest_sha256 in self._named:
                        self._note_failure(named, error, load)
                    continue
                if named.manifest_sha256 in self._named:
                    self._models[named.manifest_sha256] = model
                    log("INFO", "candidate loaded", model_version=named.model_version)
                    self._changed()
        finally:
            self._loading = self._current = None

    def _note_failure(self, named: NamedModel, error: Exception, load: Load | None) -> None:
        before = self._failures.get(named.manifest_sha256)
        first, longest = RETRY_PAUSE_SECONDS
        pause = min(longest, before.pause * 2) if before else first
        reason = f"{type(error).__name__}: {error}"
        self._failures[named.manifest_sha256] = _Failure(reason, pause, self._clock() + pause, load)
        log("ERROR", "candidate is not used", model_version=named.model_version, reason=reason)
