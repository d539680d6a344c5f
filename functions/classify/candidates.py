"""Loads the candidates, the models that the pointer names besides the served one, and drops those no longer named.

Candidates cannot harm the served model: no request waits for a candidate to load, and a candidate that does not load in
time, or fails on a record, is dropped and retried later with growing pauses.
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
"""First and longest pause, in seconds, before a failed candidate is retried."""
STILL_NAMED_CHECK_SECONDS = 1.0
"""Interval, in seconds, between checks whether the pointer still names a candidate that is loading."""


@dataclass(slots=True)
class _Failure:
    reason: str
    pause: float
    retry_at: float
    load: Load | None
    """The load that may still be running in its thread."""


class Candidates:
    """The loaded candidates by the hash of their manifest. Belongs to one event loop."""

    def __init__(
        self,
        load: Loader,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        """Configure the loading.

        Args:
            load: loads a model.
            changed: is called after a candidate is loaded or dropped.
            clock: the current time, in seconds.
            load_seconds: longest time, in seconds, that a load may take.
        """
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
        """Drop the candidates that the pointer no longer names, and start loading those it names, without waiting."""
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
        """Return the loaded model with this manifest, or None if it is not loaded."""
        return self._models.get(manifest_sha256)

    def drop(self, manifest_sha256: str, error: Exception) -> None:
        """Stop using a candidate that failed on a record; it is retried later."""
        if self._models.pop(manifest_sha256, None) is not None:
            self._note_failure(self._named[manifest_sha256], error, None)
            self._changed()

    def report(self, named: NamedModel) -> dict[str, Any]:
        """Return the state of a candidate, for ``GET /v1/model``."""
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
                        continue  # :meth:`follow` gave it up: the pointer has moved meanwhile
                    model = load.result()
                except Exception as error:
                    # Whatever the error is, this candidate is not used, and a log line says so.
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
