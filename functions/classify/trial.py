"""Tries a model before the pointer may name it: loads the files of its folder by the code that would serve them, in a
separate process with the memory of an instance and no more time than a request would wait.

The gate tries the model that it would promote, and ``lunation promote`` the model that a person names, so the pointer
never names a model that no instance could load or use. This file ships with both, so it imports no more than
``model.py`` does.
"""

import json
import math
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from schemas import UseCase

SECONDS = 20.0
"""Longest time, in seconds, for loading and all rows: what a request waits for a model (``serving.WAIT_SECONDS``)."""
START_SECONDS = 60.0
"""Longest time, in seconds, for the process to start and import its modules, which does not depend on the model."""
INSTANCE_BYTES = 512 * 2**20
"""Memory, in bytes, of an instance of ``classify``, unless the settings say otherwise."""
RESERVED_BYTES = 128 * 2**20
"""Memory, in bytes, that an instance needs besides a new model: for the framework, the clients and the served model."""
LARGEST = 1.7e308
"""A number close to the largest double."""
NUMBERS = (0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, float(2**53 - 1), float(1 - 2**53), LARGEST, -LARGEST)
TEXTS = ("", " ", "\u0000", "\u202e", "__missing__", "never seen", "x" * 10_000)
SHOWN = 60
"""Limit, in characters, for a value in a reason."""
TOLERANCE = 1e-9
"""Largest accepted difference between two probabilities, as for golden rows."""
READY = b"ready\n"
"""The line by which the process says that it has started."""

Row = tuple[Mapping[str, Any], float]
"""The features of a record, and the probability that the model must return for them."""


def room(memory: int) -> int:
    """Return the memory, in bytes, that an instance with ``memory`` bytes has for a new model."""
    return max(memory - RESERVED_BYTES, memory // 2)


class TrialError(RuntimeError):
    """The trial itself could not run; the text says why. This says nothing about the model."""


@dataclass(frozen=True)
class Folder:
    """The files of a model's folder, and the hash that vouches for them."""

    model_version: str
    manifest_sha256: str
    files: Mapping[str, bytes]


class Trial:
    """One trial. The process starts with the ``with`` block, so that it is ready once there is a model to try."""

    def __init__(self, seconds: float = SECONDS, memory: int = room(INSTANCE_BYTES)) -> None:
        self._seconds = seconds
        self._memory = memory

    def __enter__(self) -> Self:
        paths = [path or os.getcwd() for path in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "functions.classify.trial", str(self._memory), str(self._seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # One thread for linear algebra, as an instance has one processor; each would reserve memory of its own.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def refusal(self, case: UseCase, folder: Folder, rows: Sequence[Row] = ()) -> str | None:
        """Return why no instance could serve this model (the check and the row), or None if the trial passed.

        Args:
            case: the model's use case.
            folder: the model's folder.
            rows: records with the probabilities that the model must return. More records come from the golden rows.

        Raises:
            TrialError: the process could not be started.
        """
        # Only the fields are sent: derived attributes of a use case may not be picklable.
        given = {field.name: getattr(case, field.name) for field in fields(case)}
        self._await_ready()
        try:
            out, err = self._process.communicate(pickle.dumps((given, folder, rows)), timeout=self._seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return f"it was not loaded and tried within {self._seconds:g} s: a graph that does not end, or is too large"
        return self._outcome(out, err.decode(errors="replace").strip().splitlines())

    def _await_ready(self) -> None:
        assert self._process.stdout is not None
        line = _line_within(self._process.stdout, START_SECONDS)
        if line != READY:
            self._process.kill()
            _, err = self._process.communicate()
            words = err.decode(errors="replace").strip().splitlines()
            raise TrialError(
                f"the process that tries models did not start within {START_SECONDS:g} s: "
                f"{words[-1] if words else 'it said nothing'}"
            )

    def _outcome(self, out: bytes, err: Sequence[str]) -> str | None:
        code = self._process.returncode
        if code == 0:
            found: str | None = json.loads(out)
            return found
        last = f": {err[-1][:300]}" if err else ""
        megabytes = self._memory // 2**20
        if code == -signal.SIGXCPU:
            return f"it took more than {self._seconds:g} s of a processor"
        if code < 0:
            return (
                f"loading it ended its process by {signal.Signals(-code).name}{last}; it had {megabytes} MiB of memory"
            )
        return f"loading it ended its process with exit code {code}{last}"


def _line_within(stream: Any, seconds: float) -> bytes:
    """Return the next line of a pipe, or nothing if none has begun after ``seconds``."""
    found, _, _ = select.select([stream], [], [], seconds)
    return bytes(stream.readline()) if found else b""


# --- inside the child process


def main(argv: Sequence[str]) -> int:
    """Read a model from standard input, and write the reason for refusing it, or null, to standard output as JSON."""
    from .model import ModelRefusedError, load_model

    memory, seconds = int(argv[0]), math.ceil(float(argv[1]))
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    # The content is only what the parent process has written. If the parent has gone, it is empty.
    content = sys.stdin.buffer.read()
    if not content:
        return 0
    given, folder, rows = pickle.loads(content)  # noqa: S301 - the parent's own
    del content
    # RLIMIT_AS would also count memory that libraries reserve and never use. macOS has none of these limits.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    used = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    with suppress(ValueError, OSError):  # in case the parent is killed before it kills this process
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds + 1, used + seconds + 2))
    try:
        case = UseCase(**given)
        model = load_model(case, folder.model_version, folder.manifest_sha256, folder.files.__getitem__)
        refusal = _first_failure(case, model, folder, rows)
    except ModelRefusedError as error:
        refusal = str(error)
        if "bad_alloc" in refusal:  # the C++ exception, as onnxruntime reports it
            refusal += f": it does not fit into {memory // 2**20} MiB of memory"
    except KeyError as error:
        refusal = f"its folder has no {error.args[0]}"
    except MemoryError:
        refusal = f"it does not fit into {memory // 2**20} MiB of memory"
    json.dump(refusal, sys.stdout)
    return 0


def _first_failure(case: UseCase, model: Any, folder: Folder, rows: Sequence[Row]) -> str | None:
    """Return what is wrong with the first row that the model does not answer correctly, or None."""
    named: list[tuple[str, BaseModel, float | None]] = []
    for number, (values, expected) in enumerate(rows):
        # No publisher can still send a row that the use case's class refuses by now.
        if _is_valid(case, values):
            named.append((f"row {number} of the window", _features(case, values), expected))
    base = json.loads(folder.files["golden.json"])[0]["features"]
    named += [(name, features, None) for name, features in synthetic_records(case, base)]
    alone = []
    for name, features, wanted in named:
        try:
            answer = model.probability(features)
        except Exception as error:  # onnxruntime's errors have no common base class
            return f"{name}: {error}"
        if wanted is not None and not abs(answer - wanted) <= TOLERANCE:
            return f"{name}: it answers {answer!r}, and not {wanted!r} as it was judged by"
        alone.append(answer)
    try:
        together = model.probabilities([features for _, features, _ in named])
    except Exception as error:
        return f"all rows in one run: {error}"
    for (name, _, _), one, other in zip(named, alone, together, strict=True):
        if abs(one - other) > TOLERANCE:
            return f"{name}: it answers {one!r} by itself, and {other!r} among others"
    return None


def synthetic_records(case: UseCase, base: Mapping[str, Any]) -> Iterator[tuple[str, BaseModel]]:
    """Yield records that a publisher may send, each with its name: ``base`` with values that are missing, unknown, or
    as large or small as the use case's class allows, one at a time and all together."""
    allowed: dict[str, list[Any]] = {}
    for name, field in case.features.model_fields.items():
        values: list[Any] = [
            None,
            *TEXTS,
            *_longest_texts(field.metadata),
            True,
            False,
            *NUMBERS,
            *_bounds(field.metadata),
        ]
        values += [int(value) for value in values if isinstance(value, float) and abs(value) < 2**53]
        allowed[name] = [value for value in values if _is_valid(case, {**base, name: value})]
    changes = [(f"{name} = {_short(value)}", {name: value}) for name, values in allowed.items() for value in values]
    there = {name: [one for one in values if one is not None] for name, values in allowed.items()}
    changes += [
        ("nothing that may be missing", {name: None for name, values in allowed.items() if None in values}),
        ("the least of every value", {name: min(values) for name, values in there.items() if values}),
        ("the most of every value", {name: max(values) for name, values in there.items() if values}),
    ]
    yield "a golden row", _features(case, base)
    for told, change in changes:
        if _is_valid(case, {**base, **change}):
            yield f"a golden row with {told}", _features(case, {**base, **change})


def _bounds(metadata: Sequence[Any]) -> Iterator[float]:
    """Yield the bounds that a field declares and the numbers next to them."""
    for one in metadata:
        for kind in ("ge", "gt", "le", "lt"):
            bound = getattr(one, kind, None)
            if isinstance(bound, int | float):
                yield from (float(bound), bound + 1.0, bound - 1.0)
                yield from (math.nextafter(bound, math.inf), math.nextafter(bound, -math.inf))


def _longest_texts(metadata: Sequence[Any]) -> Iterator[str]:
    """Yield the longest text that a field allows."""
    yield from ("x" * one.max_length for one in metadata if isinstance(getattr(one, "max_length", None), int))


def _features(case: UseCase, values: Mapping[str, Any]) -> BaseModel:
    return case.read_features(dict(values))


def _is_valid(case: UseCase, values: Mapping[str, Any]) -> bool:
    try:
        _features(case, values)
    except ValidationError:
        return False
    return True


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
