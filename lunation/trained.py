"""A training run by its names, and what it left in its model's folder."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import shorten

from google.api_core.exceptions import NotFound
from pydantic import ValidationError

from lunation import query, runs
from lunation.clients import Clients
from lunation.deploy.names import models_bucket
from schemas import ModelManifest, RunState, TrainingRun
from schemas.dead_letter import explain
from schemas.file_hash import hash_mismatch

_MODEL_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}/[A-Za-z0-9][A-Za-z0-9-]{0,63}")


LATEST = "latest"
"""What names the newest run that has ended, wherever a run or a model is named."""
CANDIDATES = 5
"""So many are listed of what a part of a name may mean."""


CAUSE = 300
"""So many characters of a cause go into another error."""


class NoSuchResultError(ValueError):
    """A run left nothing of the kind; the text says why."""


class NoSuchRunError(NoSuchResultError):
    """No run is called so, or more than one; the text says which."""


@dataclass(frozen=True)
class Named:
    """A run by its names.

    Args:
        execution: full name of the workflow execution; empty if it is not known.
        run: its row; None: it has claimed no cycle, or another execution has taken its claim over.
    """

    execution: str
    run: TrainingRun | None = None

    @property
    def short_id(self) -> str:
        """What the tables call it."""
        return runs.short_id(self.run.run_id if self.run is not None else self.execution)

    def names(self) -> Iterator[str]:
        """All that it may be called by."""
        yield self.execution.rsplit("/", 1)[-1]
        if self.run is not None:
            yield self.run.run_id
            if self.run.model_version is not None:
                yield self.run.model_version

    def __str__(self) -> str:
        if self.run is None:
            return f"{self.short_id} ({self.execution.rsplit('/', 1)[-1]}, which claimed no cycle)"
        return f"{self.short_id} ({self.run.run_id}, {self.run.verdict or self.run.state})"


def find(
    clients: Clients, use_case: str, text: str, *, also: Iterable[str] = (), broken: query.Tell = query.refuse
) -> Named:
    """The run that ``text`` means: :data:`LATEST`, or the beginning or the end of its run id, of its execution's id or
    of its model version, if no other run's begins or ends so.

    Args:
        also: full names of executions, of which some may have claimed no cycle.
        broken: told of each row that cannot be read; it may be the one that is looked for.

    Raises:
        NoSuchRunError: there is none, or there are several.
    """
    claims = query.training_runs(clients.datastore, use_case, None, broken)
    if text == LATEST:
        ended = next((run for run in claims if run.state != RunState.RUNNING), None)
        if ended is None:
            raise NoSuchRunError(f"no run of {use_case} has ended yet, so there is no latest one; see `lunation runs`")
        return Named(ended.execution, ended)
    known = {run.execution for run in claims}
    named = [Named(run.execution, run) for run in claims]
    named += [Named(execution) for execution in dict.fromkeys(also) if execution not in known]
    return _meant(named, use_case, text)


def _meant(named: Sequence[Named], use_case: str, text: str) -> Named:
    exact = [one for one in named if text in one.names()]
    found = exact or [one for one in named if text and any(map(partial(_begins_or_ends, text), one.names()))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoSuchRunError(f"no run {text!r} for use case {use_case}; `lunation runs` lists them")
    more = f" and {len(found) - CANDIDATES} more" if len(found) > CANDIDATES else ""
    listed = ", ".join(map(str, found[:CANDIDATES]))
    raise NoSuchRunError(f"{text!r} is the beginning or end of {len(found)} runs: {listed}{more}. Give more of one")


def _begins_or_ends(text: str, name: str) -> bool:
    return name.startswith(text) or name.endswith(text)


def model_version(clients: Clients, use_case: str, text: str, broken: query.Tell = query.refuse) -> str:
    """The model version of a run, by any name of it that :func:`find` takes. A whole model version is taken as it is.

    Raises:
        NoSuchRunError: no such run, or several.
        NoSuchResultError: it made no model; with the cause.
    """
    if _MODEL_VERSION.fullmatch(text):
        return text
    run = find(clients, use_case, text, broken=broken).run
    assert run is not None  # without other executions, each has a row
    if run.model_version is not None:
        return run.model_version
    runs_so_far = query.training_runs(clients.datastore, use_case, None, lambda _: None)
    newest = next((one for one in runs_so_far if one.model_version), None)
    other = f"; the newest with a model is {runs.short_id(newest.run_id)}" if newest and text == LATEST else ""
    raise NoSuchResultError(_without_model(run) + other)


def manifest(clients: Clients, version: str) -> ModelManifest:
    """The manifest of a model.

    Raises:
        NoSuchResultError: there is none, or it cannot be read.
    """
    content = _read(clients, version, "manifest.json")
    try:
        return ModelManifest.model_validate_json(content)
    except ValidationError as error:
        raise NoSuchResultError(f"the manifest of {version} cannot be read: {explain(error)}") from None


def evidence(clients: Clients, found: ModelManifest, name: str) -> bytes:
    """A file that tells about the run, as its manifest has it.

    Raises:
        NoSuchResultError: the manifest names none, it is gone, or it was changed.
    """
    expected = {file.name: file.sha256 for file in found.evidence}.get(name)
    if expected is None:
        raise NoSuchResultError(f"the run of {found.model_version} left no {name}: it is older than those")
    content = _read(clients, found.model_version, name)
    if hash_mismatch(name, content, expected):
        raise NoSuchResultError(f"{name} of {found.model_version} is not the file that its manifest names (SHA-256)")
    return content


def _read(clients: Clients, version: str, name: str) -> bytes:
    bucket = models_bucket(clients.target)
    try:
        content: bytes = clients.storage.bucket(bucket).blob(f"models/{version}/{name}").download_as_bytes()
    except NotFound:
        raise NoSuchResultError(
            f"there is no gs://{bucket}/models/{version}/{name}; `lunation runs` lists the runs"
        ) from None
    return content


def _without_model(run: TrainingRun) -> str:
    if run.state == RunState.RUNNING:
        return f"run {run.run_id} is not over yet: lunation runs {run.run_id}"
    cause = shorten(run.cause or "no cause is recorded", CAUSE, placeholder=" …")
    return f"run {run.run_id} made no model: {cause} (in full: lunation runs {runs.short_id(run.run_id)})"
