"""Runs a program. What the clock, the network and chance gave is written down, so that a killed run goes on.

After a restart the program runs again from its start; each thing that was written down is taken from there instead
of done again, so the run comes to where it was without a second effect.
"""

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from laptop.workflows import library
from laptop.workflows.errors import Raised, error
from laptop.workflows.expressions import Index, Name, Tree, element, truth
from laptop.workflows.program import Routine, Step

MAX_STEPS = 100_000
MAX_HTTP_SECONDS = 1800
MAX_DEPTH = 20
PREDICATES = {
    # https://cloud.google.com/workflows/docs/reference/stdlib/http/default_retry_predicate and …_non_idempotent
    "http.default_retry_predicate": (
        {429, 502, 503, 504},
        {"ConnectionError", "ConnectionFailedError", "TimeoutError"},
    ),
    "http.default_retry_predicate_non_idempotent": ({429, 503}, {"ConnectionFailedError"}),
}
_BACKOFF = {"initial_delay": 1, "max_delay": 60, "multiplier": 1.25}


@dataclass(frozen=True)
class Function:
    """A function as a value: a predicate of a retry."""

    name: str


RETRIES = {
    "default_retry": {
        "predicate": Function("http.default_retry_predicate"), "max_retries": 5, "backoff": _BACKOFF,
    },
    "default_retry_non_idempotent": {
        "predicate": Function("http.default_retry_predicate_non_idempotent"), "max_retries": 5, "backoff": _BACKOFF,
    },
    "default_retry_predicate": Function("http.default_retry_predicate"),
    "default_retry_predicate_non_idempotent": Function("http.default_retry_predicate_non_idempotent"),
}  # fmt: skip


class Journal(Protocol):
    """What a run writes down."""

    def find(self, number: int) -> dict[str, Any] | None:
        """What was written under ``number``, if this run was here before."""
        ...

    async def keep(self, number: int, outcome: dict[str, Any]) -> None:
        """Write an outcome down, durably."""
        ...

    async def step_begins(self, number: int, routine: str, step: Step) -> None:
        """Step ``number`` of the history begins."""
        ...

    async def step_ends(self, number: int, failure: Any) -> None:
        """Step ``number`` has ended; ``failure`` is the value that was raised, or None."""
        ...

    def log(self, text: str) -> None:
        """What ``sys.log`` says."""
        ...


@dataclass
class Jump:
    """``next`` to a step by its name."""

    target: str


@dataclass
class Returned:
    """``return``."""

    value: Any


@dataclass
class Variables:
    """Names of one call of a routine; a ``for`` has its own on top."""

    outer: "Variables | None" = None
    held: dict[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> "Variables | None":
        """Where a name is held."""
        if name in self.held:
            return self
        return self.outer.find(name) if self.outer is not None else None

    def set(self, name: str, value: Any) -> None:
        """Set a name where it is held, or here."""
        (self.find(name) or self).held[name] = value


class Run:
    """One execution.

    Args:
        routines: the program.
        journal: what it writes down.
        environment: for ``sys.get_env``.
        session: the HTTP client.
        authorize: gives the Authorization header for ``auth`` and the URL.
    """

    def __init__(
        self,
        routines: Mapping[str, Routine],
        journal: Journal,
        environment: Mapping[str, str],
        session: aiohttp.ClientSession,
        authorize: Callable[[Mapping[str, Any], str], str],
    ) -> None:
        self._routines = routines
        self._journal = journal
        self._environment = environment
        self._session = session
        self._authorize = authorize
        self._outcomes = 0
        self._steps = 0
        self.current: list[tuple[str, str]] = []
        """Routine and step, outermost first."""

    async def main(self, argument: Any) -> Any:
        """Run to the end; answers the result.

        Raises:
            Raised: what no step caught.
        """
        routine = self._routines["main"]
        named = {routine.params[0][0]: argument} if routine.params else {}
        return await self._routine("main", [], named)

    async def _routine(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:
        routine = self._routines[name]
        if len(self.current) >= MAX_DEPTH:
            raise error("RecursionError", f"{name}: calls go deeper than {MAX_DEPTH}")
        variables = Variables()
        frame = Frame(self, name, variables)
        params = [param for param, _ in routine.params]
        for given in named:
            if given not in params:
                raise error("TypeError", f"{name} has no parameter {given}")
        for number, (param, default) in enumerate(routine.params):
            if number < len(positional):
                variables.held[param] = positional[number]
            elif param in named:
                variables.held[param] = named[param]
            elif default is not None:
                variables.held[param] = await default.value(frame)
            else:
                raise error("TypeError", f"{name}: the parameter {param} is missing")
        outcome = await self._block(routine.steps, frame)
        return outcome.value if isinstance(outcome, Returned) else None

    async def _block(self, steps: list[Step], frame: "Frame") -> Jump | Returned | None:
        places = {step.name: number for number, step in enumerate(steps)}
        at = 0
        while at < len(steps):
            step = steps[at]
            outcome = await self._recorded(step, frame)
            if isinstance(outcome, Jump) and outcome.target in places:
                at = places[outcome.target]
            elif outcome is not None:
                return outcome
            else:
                at += 1
        return None

    async def _recorded(self, step: Step, frame: "Frame") -> Jump | Returned | None:
        self._steps += 1
        number = self._steps
        if number > MAX_STEPS:
            raise error("ResourceLimitError", f"the execution took more than {MAX_STEPS} steps")
        self.current.append((frame.routine, step.name))
        await self._journal.step_begins(number, frame.routine, step)
        try:
            outcome = await self._step(step, frame)
        except Raised as failure:
            await self._journal.step_ends(number, failure.value)
            raise
        finally:
            self.current.pop()
        await self._journal.step_ends(number, None)
        if outcome is None and step.next is not None:
            return Returned(None) if step.next == "end" else Jump(step.next)
        return outcome

    async def _step(self, step: Step, frame: "Frame") -> Jump | Returned | None:
        fields = step.fields
        if step.kind == "assign":
            for target, value in fields["assign"]:
                await self._assign(target, await value.value(frame), frame)
            return None
        if step.kind == "call":
            arguments = await fields["args"].value(frame)
            if isinstance(arguments, dict):
                result = await frame.call(fields["call"], [], arguments)
            else:
                result = await frame.call(fields["call"], arguments or [], {})
            if fields["result"] is not None:
                frame.variables.set(str(fields["result"]), result)
            return None
        if step.kind == "switch":
            for condition, steps, following in fields["switch"]:
                if truth(await condition.value(frame), "condition"):
                    outcome = await self._block(steps, frame)
                    if outcome is not None:
                        return outcome
                    if following is not None:
                        return Returned(None) if following == "end" else Jump(following)
                    return None
            return None
        if step.kind == "for":
            return await self._for(fields, frame)
        if step.kind == "try":
            return await self._try(fields, frame)
        if step.kind == "raise":
            raise Raised(await fields["raise"].value(frame))
        if step.kind == "return":
            return Returned(await fields["return"].value(frame))
        return await self._block(fields["steps"], frame)

    async def _assign(self, target: Tree, value: Any, frame: "Frame") -> None:
        if isinstance(target, Name):
            frame.variables.set(target.name, value)
            return
        assert isinstance(target, Index)
        index = await target.index.value(frame)
        base = await self._container(target.base, frame)
        if isinstance(base, list):
            element(base, index)
        elif not isinstance(base, dict):
            raise error("TypeError", f"cannot assign to an element of {base!r}")
        base[index] = value

    async def _container(self, tree: Tree, frame: "Frame") -> Any:
        """The map or list that an element is assigned to; a map that is not there is made, as the service does."""
        if isinstance(tree, Index):
            base = await self._container(tree.base, frame)
            index = await tree.index.value(frame)
            if isinstance(base, dict) and index not in base:
                base[index] = {}
            return element(base, index)
        assert isinstance(tree, Name)
        return frame.look_up(tree.name)

    async def _for(self, fields: Mapping[str, Any], frame: "Frame") -> Jump | Returned | None:
        if fields["in"] is not None:
            items = await fields["in"].value(frame)
            items = list(items) if isinstance(items, (list, dict)) else items
        else:
            bounds = await fields["range"].value(frame)
            items = list(range(bounds[0], bounds[1] + 1))
        if not isinstance(items, list):
            raise error("TypeError", "for: expected a list or a map")
        for number, item in enumerate(items):
            inner = Frame(self, frame.routine, Variables(frame.variables))
            inner.variables.held[fields["value"]] = item
            if fields["index"]:
                inner.variables.held[fields["index"]] = number
            outcome = await self._block(fields["steps"], inner)
            if isinstance(outcome, Jump) and outcome.target == "break":
                break
            if isinstance(outcome, Jump) and outcome.target == "continue":
                continue
            if outcome is not None:
                return outcome
        return None

    async def _try(self, fields: Mapping[str, Any], frame: "Frame") -> Jump | Returned | None:
        attempt = 0
        while True:
            try:
                return await self._block(fields["try"], frame)
            except Raised as failure:
                policy = await fields["retry"].value(frame) if fields["retry"] is not None else None
                if policy is not None and await self._again(policy, failure.value, attempt, frame):
                    attempt += 1
                    continue
                if fields["except"] is None:
                    raise
                name, steps = fields["except"]
                inner = Frame(self, frame.routine, Variables(frame.variables))
                inner.variables.held[name] = failure.value
                return await self._block(steps, inner)

    async def _again(self, policy: Mapping[str, Any], value: Any, attempt: int, frame: "Frame") -> bool:
        if attempt >= policy.get("max_retries", 0):
            return False
        predicate = policy["predicate"]
        if not truth(await frame.call(predicate.name, [value], {}), "predicate"):
            return False
        backoff = policy.get("backoff", {})
        pause = backoff.get("initial_delay", 1) * backoff.get("multiplier", 1.25) ** attempt
        await self.sleep(min(pause, backoff.get("max_delay", 60)))
        return True

    # --- what is written down

    async def once(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """The outcome of ``work``; from the journal if this run was here before."""
        self._outcomes += 1
        number = self._outcomes
        known = self._journal.find(number)
        if known is None:
            try:
                known = {"value": await work()}
            except Raised as failure:
                known = {"raised": failure.value}
            await self._journal.keep(number, known)
            known = json.loads(json.dumps(known, default=_plain), object_hook=_rich)
        if "raised" in known:
            raise Raised(known["raised"])
        return known["value"]

    async def sleep(self, seconds: float) -> None:
        """Sleep; after a restart only what is left."""

        async def end() -> float:
            return time.time() + seconds

        until = await self.once(end)
        await asyncio.sleep(max(0.0, until - time.time()))

    async def builtin(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:
        """A function that is not one of the workflow's own."""
        if name in library.FUNCTIONS:
            return library.call(name, positional, dict(named))
        if name in PREDICATES:
            return _retryable(name, (positional or list(named.values()))[0])
        arguments = dict(zip(_PARAMETERS.get(name, ()), positional, strict=False)) | dict(named)
        if name.startswith("http."):
            return await self.once(lambda: self._http(name.removeprefix("http."), arguments))
        if name == "sys.now":
            return await self.once(_now)
        if name == "uuid.generate":
            return await self.once(_uuid)
        if name == "sys.sleep":
            return await self.sleep(float(arguments["seconds"]))
        if name == "sys.sleep_until":
            return await self.sleep(library.call("time.parse", [arguments["time"]], {}) - await self.once(_now))
        if name == "sys.log":
            shown = arguments.get("data", arguments.get("json", arguments.get("text")))
            self._journal.log(shown if isinstance(shown, str) else json.dumps(shown, default=str))
            return None
        if name == "sys.get_env":
            if arguments["name"] in self._environment:
                return self._environment[arguments["name"]]
            if "default" in arguments:
                return arguments["default"]
            raise error("KeyError", f"sys.get_env: there is no variable {arguments['name']}")
        raise error("TypeError", f"there is no function {name}")

    async def _http(self, verb: str, arguments: dict[str, Any]) -> Any:
        method = arguments.get("method", "GET") if verb == "request" else verb
        url = arguments.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise error("ValueError", f"http.{verb}: {url!r} is no URL")
        headers = {str(key): str(value) for key, value in (arguments.get("headers") or {}).items()}
        if arguments.get("auth"):
            headers["Authorization"] = self._authorize(arguments["auth"], url)
        body = arguments.get("body")
        data: bytes | None = None
        if isinstance(body, bytes):
            data = body
        elif isinstance(body, str):
            data = body.encode()
        elif body is not None:
            data = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        query = {key: library.text_of(value) for key, value in (arguments.get("query") or {}).items()}
        timeout = aiohttp.ClientTimeout(total=float(arguments.get("timeout", 300)), sock_connect=10)
        try:
            async with self._session.request(
                method, url, params=query, headers=headers, data=data, timeout=timeout
            ) as response:
                content = await response.read()
                answer = {
                    "code": response.status,
                    "headers": {key.title(): value for key, value in response.headers.items()},
                    "body": _decoded(content, response.headers.get("Content-Type", "")),
                }
        except TimeoutError:
            raise error("TimeoutError", f"no answer from {url} in time") from None
        except aiohttp.ClientConnectorError as cause:
            raise error("ConnectionFailedError", str(cause)) from None
        except (aiohttp.ClientError, OSError) as cause:
            raise error("ConnectionError", str(cause)) from None
        if not 200 <= answer["code"] < 400:
            raise Raised({"message": f"HTTP server responded with error code {answer['code']}",
                          "tags": ["HttpError"], **answer})  # fmt: skip
        return answer


_PARAMETERS = {
    "sys.get_env": ("name", "default"),
    "sys.sleep": ("seconds",),
    "sys.sleep_until": ("time",),
    "sys.log": ("data",),
}


class Frame:
    """One call of a routine: where its expressions look things up.

    Args:
        run: the execution.
        routine: its name.
        variables: what it holds.
    """

    def __init__(self, run: Run, routine: str, variables: Variables) -> None:
        self.run = run
        self.routine = routine
        self.variables = variables

    def look_up(self, name: str) -> Any:
        """A variable, a subworkflow as a value, or the library's retry policies."""
        holder = self.variables.find(name)
        if holder is not None:
            return holder.held[name]
        if name in self.run._routines:
            return Function(name)
        if name == "http":
            return RETRIES
        raise error("KeyError", f"variable not found: {name}")

    async def call(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:
        """A subworkflow, or a function of the library."""
        if name in self.run._routines:
            return await self.run._routine(name, positional, named)
        return await self.run.builtin(name, positional, named)


def _retryable(name: str, failure: Any) -> bool:
    codes, tags = PREDICATES[name]
    if not isinstance(failure, dict):
        return False
    if "HttpError" in failure.get("tags", []):
        return failure.get("code") in codes
    return bool(tags & set(failure.get("tags", [])))


def _decoded(content: bytes, content_type: str) -> Any:
    if "json" in content_type:
        try:
            return json.loads(content) if content else None
        except ValueError:
            return content.decode(errors="replace")
    if content_type.startswith("text/"):
        return content.decode(errors="replace")
    return content


def _plain(value: Any) -> Any:
    return {"__bytes__": value.hex()}


def _rich(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["__bytes__"]) if set(value) == {"__bytes__"} else value


def encode(outcome: dict[str, Any]) -> str:
    """An outcome as text, bytes included."""
    return json.dumps(outcome, default=_plain)


def decode(text: str) -> dict[str, Any]:
    """The outcome of a text that :func:`encode` made."""
    decoded: dict[str, Any] = json.loads(text, object_hook=_rich)
    return decoded


async def _now() -> float:
    return time.time()


async def _uuid() -> str:
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
