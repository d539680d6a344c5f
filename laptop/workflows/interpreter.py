"""Runs a program. What the clock, the network and chance gave is written down, so that a killed run goes on.

After a restart the program runs again from its start; each thing that was written down is taken from there instead
of done again, so the run comes to where it was without a second effect.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from laptop.workflows import http, journal, library
from laptop.workflows.errors import RaisedError, error
from laptop.workflows.expressions import Index, Name, Tree, element, is_number, truth, type_name
from laptop.workflows.memory import Meter, Variables, copied
from laptop.workflows.program import Routine, Step

MAX_STEPS = 100_000
MAX_DEPTH = 20
MAX_SLEEP_SECONDS = 365 * 24 * 3600
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
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


POLICIES = {
    "default_retry": {
        "predicate": Function("http.default_retry_predicate"), "max_retries": 5, "backoff": _BACKOFF,
    },
    "default_retry_non_idempotent": {
        "predicate": Function("http.default_retry_predicate_non_idempotent"), "max_retries": 5, "backoff": _BACKOFF,
    },
    "default_retry_predicate": Function("http.default_retry_predicate"),
    "default_retry_predicate_non_idempotent": Function("http.default_retry_predicate_non_idempotent"),
}  # fmt: skip
MODULES = {
    "http": POLICIES,
    "retry": {"always": Function("retry.always"), "never": Function("retry.never")},
}
# What is not in the library: required parameters, then optional ones.
_HTTP = ("body", "headers", "query", "auth", "timeout")
_PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sys.now": ((), ()),
    "sys.sleep": (("seconds",), ()),
    "sys.sleep_until": (("time",), ()),
    "sys.log": ((), ("data", "severity", "text", "json", "timeout")),  # in the order of a list of arguments
    "sys.get_env": (("name",), ("default",)),
    "uuid.generate": ((), ()),
    "http.get": (("url",), _HTTP[1:]),
    "http.post": (("url",), _HTTP),
    "http.put": (("url",), _HTTP),
    "http.patch": (("url",), _HTTP),
    "http.delete": (("url",), _HTTP),
    "http.request": (("method", "url"), _HTTP),
    "http.default_retry_predicate": (("exception",), ()),
    "http.default_retry_predicate_non_idempotent": (("exception",), ()),
    "retry.always": (("exception",), ()),
    "retry.never": (("exception",), ()),
}


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


class Run:
    """One execution.

    Args:
        routines: the program.
        journal: what it writes down.
        environment: for ``sys.get_env``.
        session: the HTTP client.
        authorize: gives the Authorization header for a type of ``auth``, the audience it names or None, and a URL.
    """

    def __init__(
        self,
        routines: Mapping[str, Routine],
        journal: Journal,
        environment: Mapping[str, str],
        session: aiohttp.ClientSession,
        authorize: http.Authorize,
    ) -> None:
        self.routines = routines
        self._journal = journal
        self._environment = environment
        self._client = http.Client(session, authorize)
        self._meter = Meter()
        self._outcomes = 0
        self._steps = 0
        self._depth = 0
        self.current: list[tuple[str, str]] = []
        """Routine and step, outermost first."""

    async def main(self, argument: Any) -> Any:
        """Run to the end; answers the result.

        Raises:
            RaisedError: what no step caught.
        """
        routine = self.routines["main"]
        named = {routine.params[0][0]: argument} if routine.params else {}
        try:
            return await self.call_routine("main", [], named)
        except RecursionError:
            raise error("RecursionError", "the execution is nested too deeply") from None

    async def call_routine(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:
        """Run one routine of the program; answers what it returns.

        Raises:
            RaisedError: what no step of it caught, arguments that do not fit, or calls that go too deep.
        """
        routine = self.routines[name]
        if self._depth >= MAX_DEPTH:
            raise error("RecursionError", f"{name}: calls go deeper than {MAX_DEPTH}")
        variables = Variables(self._meter)
        frame = Frame(self, name, variables)
        params = [param for param, _ in routine.params]
        for given in named:
            if given not in params:
                raise error("TypeError", f"{name} has no parameter {given}")
        if len(positional) > len(params):
            raise error("TypeError", f"{name} takes {len(params)} arguments, not {len(positional)}")
        self._depth += 1
        try:
            for number, (param, default) in enumerate(routine.params):
                if number < len(positional):
                    variables.hold(param, positional[number])
                elif param in named:
                    variables.hold(param, named[param])
                elif default is not None:
                    variables.hold(param, await default.value(frame))
                else:
                    raise error("TypeError", f"{name}: the parameter {param} is missing")
            outcome = await self._block(routine.steps, frame)
        finally:
            self._depth -= 1
            variables.release()
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
        except RaisedError as failure:
            failure.trace.append((frame.routine, step.name, step.line))
            await self._journal.step_ends(number, failure.value)
            raise
        finally:
            self.current.pop()
        await self._journal.step_ends(number, None)
        if outcome is None and step.next is not None:
            return Returned(None) if step.next == "end" else Jump(step.next)
        return outcome

    async def _step(self, step: Step, frame: "Frame") -> Jump | Returned | None:  # noqa: C901  # a branch for each kind of step
        fields = step.fields
        if step.kind == "assign":
            for target, value in fields["assign"]:
                await self._assign(target, await value.value(frame), frame)
            return None
        if step.kind == "call":
            arguments = await fields["args"].value(frame)
            if arguments is not None and not isinstance(arguments, (dict, list)):
                raise error("TypeError", f"args: expected a map or a list, got {type_name(arguments)}")
            # A list: https://cloud.google.com/workflows/docs/reference/stdlib/sys/log has an example.
            positional, named = (arguments, {}) if isinstance(arguments, list) else ([], arguments or {})
            result = await frame.call(fields["call"], positional, named)
            if fields["result"] is not None:
                frame.variables.set(fields["result"], result)
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
            value = await fields["raise"].value(frame)
            if not isinstance(value, (str, dict)):
                raise error("TypeError", f"raise: expected a string or a map, got {type_name(value)}")
            raise RaisedError(copied(value))
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
            raise error("TypeError", f"cannot assign to an element of {type_name(base)}")
        elif not isinstance(index, str):
            raise error("TypeError", f"the key of a map is a string, not {type_name(index)}")
        base[index] = copied(value)
        root: Tree = target
        while isinstance(root, Index):
            root = root.base
        assert isinstance(root, Name)
        holder = frame.variables.find(root.name)
        assert holder is not None
        holder.changed(root.name)

    async def _container(self, tree: Tree, frame: "Frame") -> Any:
        """The map or list that an element is assigned to; a map that is not there is made, as the service does."""
        if isinstance(tree, Index):
            base = await self._container(tree.base, frame)
            index = await tree.index.value(frame)
            if isinstance(base, dict) and isinstance(index, str) and index not in base:
                base[index] = {}
            return element(base, index)
        assert isinstance(tree, Name)
        holder = frame.variables.find(tree.name)
        if holder is None:
            raise error("KeyError", f"variable not found: {tree.name}")
        return holder[tree.name]

    async def _for(self, fields: Mapping[str, Any], frame: "Frame") -> Jump | Returned | None:
        if fields["in"] is not None:
            items: Any = await fields["in"].value(frame)
            if not isinstance(items, (list, dict)):
                raise error("TypeError", f"for: expected a list or a map, got {type_name(items)}")
            items = copied(list(items))  # the loop goes over what there was when it began
        else:
            items = _range(await fields["range"].value(frame))
        for number, item in enumerate(items):
            inner = Frame(self, frame.routine, Variables(self._meter, frame.variables))
            try:
                inner.variables.hold(fields["value"], item)
                if fields["index"]:
                    inner.variables.hold(fields["index"], number)
                outcome = await self._block(fields["steps"], inner)
            finally:
                inner.variables.release()
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
            except RaisedError as failure:
                policy = await fields["retry"].value(frame) if fields["retry"] is not None else None
                if policy is not None and await self._again(policy, failure.value, attempt, frame):
                    attempt += 1
                    continue
                if fields["except"] is None:
                    raise
                name, steps = fields["except"]
                inner = Frame(self, frame.routine, Variables(self._meter, frame.variables))
                try:
                    inner.variables.hold(name, failure.value)
                    return await self._block(steps, inner)
                finally:
                    inner.variables.release()

    async def _again(self, policy: Any, value: Any, attempt: int, frame: "Frame") -> bool:
        """Whether to try again, after the pause that the policy asks for."""
        predicate, most, backoff = (_part(policy, name) for name in ("predicate", "max_retries", "backoff"))
        if not isinstance(predicate, Function):
            raise error("TypeError", f"retry.predicate: expected a function, got {type_name(predicate)}")
        if not is_number(most):
            raise error("TypeError", f"retry.max_retries: expected a number, got {type_name(most)}")
        if attempt >= most or not truth(await frame.call(predicate.name, [value], {}), "retry.predicate"):
            return False
        first, longest, factor = (_part(backoff, name) for name in ("initial_delay", "max_delay", "multiplier"))
        if not all(is_number(one) for one in (first, longest, factor)):
            raise error("TypeError", "retry.backoff: expected numbers")
        pause = float(first)
        for _ in range(min(attempt, 1000)):
            pause = min(pause * factor, longest)
        await self.sleep(max(0.0, min(pause, longest)))
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
            except RaisedError as failure:
                known = {"raised": failure.value}
            await self._journal.keep(number, known)
            known = journal.decode(journal.encode(known))  # the same, whether it is the first run or a resumed one
        if "raised" in known:
            raise RaisedError(known["raised"])
        return known["value"]

    async def sleep(self, seconds: float) -> None:
        """Sleep; after a restart only what is left."""

        async def end() -> float:
            return time.time() + seconds

        until = await self.once(end)
        await asyncio.sleep(max(0.0, until - time.time()))

    async def builtin(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:  # noqa: C901  # a branch for each function that waits
        """A function that is not one of the workflow's own."""
        if name in library.IN_THREAD:
            return await asyncio.to_thread(library.call, name, positional, dict(named))
        if name in library.FUNCTIONS:
            return library.call(name, positional, dict(named))
        arguments = _arguments(name, positional, named)
        if name in PREDICATES:
            return _retryable(name, arguments["exception"])
        if name.startswith("retry."):
            return name == "retry.always"
        if name.startswith("http."):
            verb = name.removeprefix("http.")
            request = http.request(arguments.pop("method", verb), arguments)
            return await self.once(lambda: self._client.send(request))
        if name == "sys.now":
            return await self.once(_now)
        if name == "uuid.generate":
            return await self.once(_uuid)
        if name == "sys.sleep":
            return await self.sleep(_duration(arguments["seconds"]))
        if name == "sys.sleep_until":
            left = library.call("time.parse", [arguments["time"]], {}) - await self.once(_now)
            return await self.sleep(_duration(max(0.0, left)))
        if name == "sys.log":
            self._journal.log(_logged(arguments))
            return None
        assert name == "sys.get_env"
        for part in ("name", "default"):
            if part in arguments and not isinstance(arguments[part], str):
                raise error("TypeError", f"sys.get_env: {part}: expected a string, got {type_name(arguments[part])}")
        if arguments["name"] in self._environment:
            return self._environment[arguments["name"]]
        if "default" in arguments:
            return arguments["default"]
        raise error("KeyError", f"sys.get_env: there is no variable {arguments['name']}")


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
            return holder[name]
        if name in self.run.routines:
            return Function(name)
        if name in MODULES:
            return MODULES[name]
        raise error("KeyError", f"variable not found: {name}")

    async def call(self, name: str, positional: list[Any], named: Mapping[str, Any]) -> Any:
        """A subworkflow, or a function of the library."""
        if name in self.run.routines:
            return await self.run.call_routine(name, positional, named)
        return await self.run.builtin(name, positional, named)


def _retryable(name: str, failure: Any) -> bool:
    codes, tags = PREDICATES[name]
    if not isinstance(failure, dict):
        return False
    if "HttpError" in failure.get("tags", []):
        return failure.get("code") in codes
    return bool(tags & set(failure.get("tags", [])))


def _part(policy: Any, name: str) -> Any:
    if not isinstance(policy, dict) or name not in policy:
        raise error("TypeError", f"retry: expected a map with {name}, got {type_name(policy)}")
    return policy[name]


def _arguments(name: str, positional: list[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    required, optional = _PARAMETERS[name]
    names = (*required, *optional)
    if len(positional) > len(names):
        raise error("TypeError", f"{name} takes {len(names)} arguments, not {len(positional)}")
    arguments = dict(zip(names, positional, strict=False)) | dict(named)
    for one in arguments:
        if one not in names:
            raise error("TypeError", f"{name} has no parameter {one}")
    for one in required:
        if one not in arguments:
            raise error("TypeError", f"{name}: the parameter {one} is missing")
    return arguments


def _logged(arguments: Mapping[str, Any]) -> str:
    """What ``sys.log`` is to say: https://cloud.google.com/workflows/docs/reference/stdlib/sys/log."""
    given = [name for name in ("data", "text", "json") if arguments.get(name) is not None]
    if len(given) != 1:
        raise error(
            "TypeError", f"sys.log takes one of data, text and json, not {' and '.join(given) or 'none of them'}"
        )
    (name,) = given
    shown = arguments[name]
    if not isinstance(shown, dict if name == "json" else (str, int, float, list, dict)):
        raise error("TypeError", f"sys.log: {name}: {type_name(shown)} cannot be logged")
    severity = arguments.get("severity") or "DEFAULT"
    if not isinstance(severity, str):
        raise error("TypeError", f"sys.log: severity: expected a string, got {type_name(severity)}")
    if severity not in SEVERITIES:
        raise error("ValueError", f"sys.log: severity: {severity!r} is none of {', '.join(SEVERITIES)}")
    return shown if isinstance(shown, str) else str(library.call("json.encode_to_string", [shown], {}))


def _duration(seconds: Any) -> float:
    if not is_number(seconds):
        raise error("TypeError", f"sys.sleep: expected a number of seconds, got {type_name(seconds)}")
    if not 0 <= seconds <= MAX_SLEEP_SECONDS:
        raise error("ValueError", f"sys.sleep: {seconds} s is not between 0 and {MAX_SLEEP_SECONDS}, a year")
    return float(seconds)


def _range(bounds: Any) -> Iterator[Any]:
    """From the first bound to the second, this included, by steps of one."""
    if not (isinstance(bounds, list) and len(bounds) == 2 and all(is_number(bound) for bound in bounds)):
        raise error("TypeError", "for: range takes two numbers")

    def numbers() -> Iterator[Any]:
        at, last = bounds
        while at <= last:
            yield at
            at += 1

    return numbers()


async def _now() -> float:
    return time.time()


async def _uuid() -> str:
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
