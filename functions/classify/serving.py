"""Determines which model answers: follows the pointer, loads in the background, and replaces one reference.

Two bounds limit the age of the last read of the pointer. Past the soft bound, a request starts a refresh and does not
wait for it; past the hard bound, it waits, because an instance without a request has no processor time for a refresh.
While Datastore is unavailable, the loaded model continues to serve and its answers say that they are stale.
A model that fails its checks, or does not load in time, never serves: the previous one stays, and ``report`` says why.
While a model loads, the pointer is read repeatedly, so that a rollback does not wait for the model that it replaces.
"""

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from functions.runtime.instruments import LOADS
from functions.runtime.log import log
from schemas import ModelPointer, NamedModel
from schemas.model_pointer import HARD_BOUND_SECONDS

from .candidates import Candidates
from .loading import SECONDS as LOAD_SECONDS
from .loading import Load, Loader
from .model import Model
from .pointer import PointerUnavailableError, PointerUnreadableError

SOFT_BOUND_SECONDS = 2.0
"""Age, in seconds, of the last read of the pointer past which a request starts a refresh without waiting for it."""
WAIT_SECONDS = 20.0
"""Longest time, in seconds, that a request waits for a refresh, including the load of a model."""
UNAVAILABLE_PAUSE_SECONDS = 1.0
"""Pause, in seconds, between two attempts to reach Datastore."""
UNAVAILABLE_HOLD_SECONDS = 5.0
"""Time, in seconds, after a failed attempt to reach Datastore during which no request waits for another attempt, which
would probably fail too."""
RELOAD_PAUSE_SECONDS = (2.0, 60.0)
"""First and longest pause, in seconds, before a model that failed to load is retried."""
OLDER_GENERATIONS = 5
"""Number of older generations that a new instance may try if the model that the pointer names fails its checks."""
HISTORY = 20
"""Number of loads that ``report`` remembers."""


class NoModelError(Exception):
    """No model can answer. The text says why."""


class PointerReader(Protocol):
    """The source of the pointer (:class:`.pointer.Pointers`)."""

    def now(self) -> Awaitable[ModelPointer | None]:
        """Return the current pointer, or None before the first promotion."""

    def at(self, generation: int) -> Awaitable[ModelPointer | None]:
        """Return the pointer of an older generation, or None if the history has no such row."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model with the pointer that named it. Each request uses exactly one of these."""

    model: Model
    model_version: str
    generation: int
    threshold: float
    uri: str
    manifest_sha256: str
    since: datetime
    stale: bool = False
    canary: "Candidate | None" = None
    """The model that answers some of the records in place of ``model``."""
    shadow: "Candidate | None" = None
    """The model that scores pushed records in addition to ``model``."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is loaded in addition to the served one."""

    served: Served
    """The candidate, in the form from which answers are built."""
    share: float
    """Fraction of the record ids that the candidate answers; 0 for a shadow."""
    drop: Callable[[Exception], None]
    """Drops the candidate. Call this when the candidate fails on a record."""


@dataclass(slots=True)
class _Failure:
    """A model that did not load."""

    manifest_sha256: str
    reason: str
    pause: float
    retry_at: float
    load: Load | None
    """The load that may still be running in its thread."""


class _PointerMovedError(Exception):
    """The pointer moved to another model while the previously named one was loading."""

    def __init__(self, pointer: ModelPointer, began: float) -> None:
        super().__init__()
        self.pointer = pointer
        self.began = began


class Serving:
    """Follows one pointer. Belongs to one event loop."""

    def __init__(
        self,
        pointers: PointerReader,
        load: Loader,
        *,
        soft: float = SOFT_BOUND_SECONDS,
        hard: float = HARD_BOUND_SECONDS,
        wait: float = WAIT_SECONDS,
        load_seconds: float = LOAD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configure the serving; all times are in seconds.

        Args:
            pointers: reads the pointer.
            load: loads a model.
            soft: the soft bound.
            hard: the hard bound.
            wait: longest time that a request waits for a refresh.
            load_seconds: longest time that a load may take.
            clock: the current time.
        """
        self._pointers = pointers
        self._load = load
        self._soft = soft
        self._hard = hard
        self._wait_seconds = wait
        self._load_seconds = load_seconds
        self._clock = clock
        self._loading: NamedModel | None = None
        self._candidates = Candidates(load, self._attach_candidates, clock, load_seconds)
        self._pointer: ModelPointer | None = None  # as it was last read
        self._served: Served | None = None
        self._confirmed = float("-inf")  # when the read began that last showed nothing newer to serve
        self._failed = float("-inf")  # when Datastore was last found out of reach
        self._began = float("-inf")
        self._wait_until: float | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._failure: _Failure | None = None
        self._trouble: str | None = "the model has not been looked for yet"
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def current_if_fresh(self) -> Served | None:
        """Return the model if the pointer was read within the soft bound. If it is None, call :meth:`get`."""
        return self._served if self._clock() - self._confirmed <= self._soft else None

    async def get(self) -> Served:
        """Return the model for one request, within the two bounds.

        Raises:
            NoModelError: no model is loaded, and none could be loaded within the longest wait.
        """
        now = self._clock()
        age = now - self._confirmed
        if age > self._soft:
            self._start_refresh(now)
        if (self._served is None or age > self._hard) and now - self._failed > UNAVAILABLE_HOLD_SECONDS:
            await self._wait(now)
        served = self._served
        if served is None:
            raise NoModelError(self._trouble or "the model is being loaded")
        return replace(served, stale=True) if self.stale() else served

    def stale(self) -> bool:
        """Whether the pointer could not be followed within the hard bound."""
        return self._served is not None and self._clock() - self._confirmed > self._hard

    def report(self) -> dict[str, Any]:
        """Return what serves, since when, and the last problem, for ``GET /v1/model``."""
        served = self._served
        return {
            "model_version": served.model_version if served else None,
            "generation": served.generation if served else None,
            "serving_since": served.since if served else None,
            "pointer_age_seconds": round(self._clock() - self._confirmed, 3) if served else None,
            "stale": self.stale(),
            "trouble": self._trouble,
            "loading": self._loading.model_version if self._loading else None,
            "canary": self._report_candidate("canary"),
            "shadow": self._report_candidate("shadow"),
            "history": list(self._history),
        }

    def _report_candidate(self, role: str) -> dict[str, Any] | None:
        named = None if self._pointer is None else getattr(self._pointer, role)
        if named is None:
            return None
        share = {"share": named.share} if role == "canary" else {}
        return {**self._candidates.report(named), **share}

    def start_refresh_if_due(self) -> None:
        """Start a refresh if one is due, without waiting."""
        now = self._clock()
        if now - self._confirmed > self._soft:
            self._start_refresh(now)

    def _start_refresh(self, now: float) -> None:
        if self._refreshing is None and now - self._failed > UNAVAILABLE_PAUSE_SECONDS:
            self._began = now
            self._wait_until = None
            self._refreshing = asyncio.create_task(self._refresh(now))
            self._refreshing.add_done_callback(self._refresh_ended)

    def _refresh_ended(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled() and (error := task.exception()):
            self._failed = self._clock()
            stack = "".join(traceback.format_tb(error.__traceback__))
            log("ERROR", f"the refresh failed: {type(error).__name__}", stack=stack)
            self._trouble = f"the refresh failed: {type(error).__name__}; the log has the stack"

    async def _wait(self, now: float) -> None:
        began = self._began
        await self._wait_for_refresh()
        if now - began > UNAVAILABLE_HOLD_SECONDS and now - self._confirmed > self._hard:
            # The refresh began long before this request, in an instance that then lost its processor: its deadline has
            # passed without a chance, or its result is just as old. So this request starts another refresh, which all
            # requests that waited with it share.
            if self._refreshing is None:
                self._failed = float("-inf")
                self._start_refresh(self._clock())
            await self._wait_for_refresh()

    async def _wait_for_refresh(self) -> None:
        """Wait for the refresh in progress, up to the longest wait since the first request that waited for it."""
        if self._refreshing is None:
            return
        if self._wait_until is None:
            self._wait_until = self._clock() + self._wait_seconds
        seconds = self._wait_until - self._clock()
        if seconds > 0:
            await asyncio.wait({self._refreshing}, timeout=seconds)

    async def _refresh(self, began: float) -> None:
        try:
            pointer = await self._pointers.now()
        except PointerUnavailableError as error:
            self._failed = self._clock()
            self._report_trouble(str(error))
            return
        except PointerUnreadableError as error:
            self._confirmed = began
            self._report_trouble(str(error))
            return
        failure_before = self._failure
        while True:
            self._pointer = pointer
            try:
                if pointer is None:
                    self._report_trouble("no model has been promoted yet")
                elif await self._follow(pointer):
                    self._report_trouble(None)
                else:
                    assert self._failure is not None
                    self._trouble = self._failure.reason
                    if self._served is None and self._failure is not failure_before:
                        await self._serve_older_generation(pointer)
            except _PointerMovedError as moved:
                pointer, began = moved.pointer, moved.began
                continue
            break
        # Moves of the candidates are followed while a model loads, too.
        if self._pointer is not None:
            self._candidates.follow(self._pointer)
            self._attach_candidates()
        self._confirmed = began

    async def _follow(self, pointer: ModelPointer) -> bool:
        """Serve the model that ``pointer`` names. Returns False if it does not load; then the served model stays.

        Raises:
            _PointerMovedError: the pointer names another model meanwhile.
        """
        served = self._served
        if served is not None and served.manifest_sha256 == pointer.manifest_sha256:
            if served.generation != pointer.generation:
                self._serve(served.model, pointer, seconds=0.0)
            return True
        failure = self._failure
        if failure is not None and failure.manifest_sha256 == pointer.manifest_sha256:
            if self._clock() < failure.retry_at or (failure.load is not None and failure.load.running):
                return False
        else:
            failure = None
        started = self._clock()
        load = None
        try:
            # A candidate that is promoted is already loaded.
            model = self._candidates.model(pointer.manifest_sha256)
            if model is None:
                load = Load(self._load, pointer, self._load_seconds)
                model = await self._loaded(load, again=failure is not None)
        except _PointerMovedError:
            raise
        except Exception as error:
            # Whatever the error is, this model does not serve, and a log line says so.
            self._note_failure(pointer, failure, f"{type(error).__name__}: {error}", load)
            return False
        self._failure = None
        self._serve(model, pointer, seconds=self._clock() - started)
        return True

    async def _loaded(self, load: Load, *, again: bool) -> Model:
        """Return the model once it is loaded.

        Args:
            load: the load in progress.
            again: whether the model failed before. If so, no request waits for this load: the served model answers.

        Raises:
            _PointerMovedError: the pointer names another model meanwhile, and this load is given up.
            Exception: the error that made the load fail.
        """
        named = self._pointer
        self._loading = load.named
        try:
            while not await load.ended(self._soft):
                began = self._clock()
                try:
                    pointer = await self._pointers.now()
                except (PointerUnavailableError, PointerUnreadableError):
                    continue
                if pointer is not None and named is not None and pointer.manifest_sha256 != named.manifest_sha256:
                    load.give_up()
                    raise _PointerMovedError(pointer, began)
                if again:
                    self._confirmed = began
            return load.result()
        finally:
            self._loading = None

    async def _serve_older_generation(self, pointer: ModelPointer) -> None:
        """Let a new instance whose model fails its checks serve the previous model, as the older instances do.

        Raises:
            _PointerMovedError: the pointer names another model meanwhile.
        """
        failure = self._failure
        oldest = max(1, pointer.generation - OLDER_GENERATIONS)
        for generation in range(pointer.generation - 1, oldest - 1, -1):
            try:
                older = await self._pointers.at(generation)
            except (PointerUnavailableError, PointerUnreadableError):
                break
            if older is not None and older.manifest_sha256 != pointer.manifest_sha256:
                self._failure = None
                try:
                    followed = await self._follow(older)
                finally:
                    self._failure = failure
                if followed:
                    break

    def _serve(self, model: Model, pointer: ModelPointer, seconds: float) -> None:
        self._served = Served(
            model=model,
            model_version=pointer.model_version,
            generation=pointer.generation,
            threshold=model.manifest.threshold,
            uri=pointer.uri,
            manifest_sha256=pointer.manifest_sha256,
            since=datetime.now(UTC),
        )
        self._add_to_history(pointer, "serving", seconds)
        LOADS.add(outcome="serves", model_version=pointer.model_version)
        log(
            "INFO",
            "model serves",
            model_version=pointer.model_version,
            generation=pointer.generation,
            load_seconds=round(seconds, 3),
        )

    def _attach_candidates(self) -> None:
        """Attach the loaded candidates to the served model if it is the model that the pointer names."""
        served, pointer = self._served, self._pointer
        if served is not None and pointer is not None:
            followed = served.generation == pointer.generation
            canary = self._candidate(served, pointer.canary, pointer.canary.share) if pointer.canary else None
            shadow = self._candidate(served, pointer.shadow, 0.0) if pointer.shadow else None
            self._served = replace(served, canary=canary if followed else None, shadow=shadow if followed else None)

    def _candidate(self, served: Served, named: NamedModel, share: float) -> Candidate | None:
        sha256 = named.manifest_sha256
        model = self._candidates.model(sha256)
        if model is None:
            return None
        answering = Served(
            model=model,
            model_version=named.model_version,
            generation=served.generation,
            threshold=model.manifest.threshold,
            uri=named.uri,
            manifest_sha256=sha256,
            since=served.since,
        )
        return Candidate(answering, share, partial(self._candidates.drop, sha256))

    def _note_failure(self, pointer: ModelPointer, before: _Failure | None, reason: str, load: Load | None) -> None:
        first, longest = RELOAD_PAUSE_SECONDS
        pause = min(longest, before.pause * 2) if before else first
        self._failure = _Failure(
            pointer.manifest_sha256,
            f"model {pointer.model_version} (generation {pointer.generation}) is not served: {reason}",
            pause,
            self._clock() + pause,
            load,
        )
        self._add_to_history(pointer, f"refused: {reason}", 0.0)
        LOADS.add(outcome="refused", model_version=pointer.model_version)
        log(
            "ERROR",
            "model is not served",
            model_version=pointer.model_version,
            generation=pointer.generation,
            reason=reason,
        )

    def _add_to_history(self, pointer: ModelPointer, outcome: str, seconds: float) -> None:
        self._history.append(
            {
                "at": datetime.now(UTC),
                "model_version": pointer.model_version,
                "generation": pointer.generation,
                "outcome": outcome,
                "seconds": round(seconds, 3),
            }
        )

    def _report_trouble(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            log("WARNING", "the pointer is not followed", reason=trouble)
        self._trouble = trouble
