"""Tries a model before anything may point to it: the very files of its folder, by the code that would serve them, in a
process of its own that has the memory of an instance and not more time than a request would wait.

The gate tries what it would promote, and ``lunation promote`` what a person names: what no instance could load or
answer with is not pointed to. This file travels with both, so it asks for no more than ``model.py`` does.
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
"""For loading and for all rows: as long as a request waits for a model (``serving.WAIT_SECONDS``)."""
START_SECONDS = 60.0
"""For the process to start and to import what it needs, which says nothing of the model."""
INSTANCE_BYTES = 512 * 2**20
"""What an instance of ``classify`` has, if the settings say nothing else."""
RESERVED_BYTES = 128 * 2**20
"""What it holds besides: the framework, the clients, the model that still serves."""
LARGEST = 1.7e308
NUMBERS = (0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, float(2**53 - 1), float(1 - 2**53), LARGEST, -LARGEST)
TEXTS = ("", " ", "\u0000", "\u202e", "__missing__", "never seen", "x" * 10_000)
SHOWN = 60
"""Characters of a value in a reason."""
TOLERANCE = 1e-9
"""As for golden rows."""
READY = b"ready\n"

Row = tuple[Mapping[str, Any], float]
"""Features, and the probability that they are to get."""


def room(memory: int) -> int:
    """How much of an instance's memory there is for a model, in bytes."""
    return max(memory - RESERVED_BYTES, memory // 2)


class TrialError(RuntimeError):
    """The trial itself could not be held; the text says why. It says nothing of the model."""


@dataclass(frozen=True)
class Folder:
    """A model's folder, and what vouches for it."""

    model_version: str
    manifest_sha256: str
    files: Mapping[str, bytes]


class Trial:
    """One trial. The process starts with the block, so that it is ready once there is a model to try."""

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
        """Why no instance could serve this model: which check, and at which row. None: it passed.

        Args:
            rows: records that it is to answer as given; others are made of its golden rows.

        Raises:
            TrialError: the process could not be started.
        """
        # By its fields: what a use case has derived of them need not be fit for pickling, nor what it replays.
        given = {field.name: getattr(case, field.name) for field in fields(case) if field.name != "history"}
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
    """The next line of a pipe; what there is of it after ``seconds``."""
    found, _, _ = select.select([stream], [], [], seconds)
    return bytes(stream.readline()) if found else b""


# --- in the process


def main(argv: Sequence[str]) -> int:
    """Read a model from the standard input, write why it is refused (or null) to the standard output, as JSON."""
    from .model import ModelRefusedError, load_model

    memory, seconds = int(argv[0]), math.ceil(float(argv[1]))
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    # Only what the parent, which started this process, has written. Without a parent there is nothing, and an end.
    content = sys.stdin.buffer.read()
    if not content:
        return 0
    given, folder, rows = pickle.loads(content)  # noqa: S301 - the parent's own
    del content
    # Not RLIMIT_AS: what libraries reserve and never touch counts there. macOS knows none of these limits.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    used = math.ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    with suppress(ValueError, OSError):  # should the parent be killed before it kills this
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds + 1, used + seconds + 2))
    try:
        case = UseCase(**given, history=lambda until: iter(()))
        model = load_model(case, folder.model_version, folder.manifest_sha256, folder.files.__getitem__)
        refusal = _first_failure(case, model, folder, rows)
    except ModelRefusedError as error:
        refusal = str(error)
        if "bad_alloc" in refusal:  # of C++, as onnxruntime passes it on
            refusal += f": it does not fit into {memory // 2**20} MiB of memory"
    except KeyError as error:
        refusal = f"its folder has no {error.args[0]}"
    except MemoryError:
        refusal = f"it does not fit into {memory // 2**20} MiB of memory"
    json.dump(refusal, sys.stdout)
    return 0


def _first_failure(case: UseCase, model: Any, folder: Folder, rows: Sequence[Row]) -> str | None:
    """What is wrong with the first row that the model does not answer as it should."""
    named: list[tuple[str, BaseModel, float | None]] = []
    for number, (values, expected) in enumerate(rows):
        # What the class refuses by now, nobody can send any more.
        if _is_valid(case, values):
            named.append((f"row {number} of the window", _features(case, values), expected))
    base = json.loads(folder.files["golden.json"])[0]["features"]
    named += [(name, features, None) for name, features in synthetic_records(case, base)]
    alone = []
    for name, features, wanted in named:
        try:
            answer = model.probability(features)
        except Exception as error:  # onnxruntime's errors have no common base
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
    """Records that a publisher may send, each with its name: ``base`` with a value that is missing, never seen, or as
    large or small as the use case's class allows, by itself and all at once."""
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
    """The bounds that a field declares, and the numbers beside them."""
    for one in metadata:
        for kind in ("ge", "gt", "le", "lt"):
            bound = getattr(one, kind, None)
            if isinstance(bound, int | float):
                yield from (float(bound), bound + 1.0, bound - 1.0)
                yield from (math.nextafter(bound, math.inf), math.nextafter(bound, -math.inf))


def _longest_texts(metadata: Sequence[Any]) -> Iterator[str]:
    """As much text as a field allows."""
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
