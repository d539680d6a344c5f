"""Workflow runs with their steps, and starting one."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from google.cloud.workflows.executions_v1 import Execution

from lunation.clients import Clients
from lunation.deploy.table import WORKFLOW

_EXECUTION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Step:
    """One executed step of a workflow."""

    number: int
    routine: str
    name: str
    kind: str
    state: str
    started: str
    ended: str


def workflow_path(clients: Clients) -> str:
    """Full name of the retraining workflow."""
    return f"{clients.location}/workflows/{WORKFLOW}"


def executions(clients: Clients, limit: int = 20) -> list[Execution]:
    """The newest executions, each in full."""
    found = clients.executions.list_executions(
        request={"parent": workflow_path(clients), "page_size": limit, "view": "FULL"}
    )
    return [execution for _, execution in zip(range(limit), found, strict=False)]


class NoSuchRun(ValueError):
    """There is no such execution, or more than one."""


def short_id(execution: str) -> str:
    """The beginning of an execution's id (or of its full name's last part), enough for a person; :func:`find` takes
    it. What is no id, such as a person's name, stays as it is."""
    last = execution.rsplit("/", 1)[-1]
    return last[:8] if _EXECUTION_ID.fullmatch(last) else last


def find(clients: Clients, text: str) -> str:
    """The full name of the execution that ``text`` means: its id, the beginning of it, or the id of its run.

    Raises:
        NoSuchRun: none among the newest 1,000, or several.
    """
    # A run's id ends with the beginning of the id of the execution that made it (workflows/retrain.yaml).
    prefix = text.rsplit("-", 1)[-1] if _RUN_ID.fullmatch(text) else text
    names = [one.name for one in executions(clients, 1000)]
    matches = [name for name in names if name.rsplit("/", 1)[-1].startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise NoSuchRun(f"{len(matches)} executions begin with {text!r}: give more of the id")
    raise NoSuchRun(f"no execution or run {text!r} among the newest {len(names)}; `lunation runs` lists them")


def steps(clients: Clients, execution: str) -> list[Step]:
    """The steps that an execution has taken, in order.

    Args:
        execution: its full name.

    Raises:
        requests.HTTPError: the service refuses; step entries are read over REST, as no client package has them.
    """
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        url = f"{clients.url('workflows')}/v1/{execution}/stepEntries"
        response = clients.http.get(url, params={"pageSize": "1000", "pageToken": token}, timeout=30)
        response.raise_for_status()
        page = response.json()
        found += page.get("stepEntries", [])
        token = page.get("nextPageToken", "")
        if not token:
            break
    return [
        Step(
            number=int(entry.get("entryId", index + 1)),
            routine=entry.get("routine", ""),
            name=entry.get("step", ""),
            kind=entry.get("stepType", "").removeprefix("STEP_TYPE_"),
            state=entry.get("state", "").removeprefix("STATE_"),
            started=entry.get("createTime", ""),
            ended=entry.get("updateTime", ""),
        )
        for index, entry in enumerate(found)
    ]


def start(clients: Clients, *, force: bool = False, early: bool = False, like: str | None = None) -> Execution:
    """Start the retraining workflow.

    Args:
        force: run whether a cycle is due or not.
        early: the same, but once in a week, however often it is asked for.
        like: repeat the run of this model version, to be compared with it.
    """
    argument = {"force": force, "early": early} | ({} if like is None else {"like": like})
    return clients.executions.create_execution(
        parent=workflow_path(clients), execution=Execution(argument=json.dumps(argument))
    )


def wait(clients: Clients, execution: str, seconds: float) -> Execution:
    """Wait until an execution has ended.

    Raises:
        TimeoutError: it is still active after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = clients.executions.get_execution(name=execution)
        if found.state != Execution.State.ACTIVE:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{execution} is still active after {seconds:.0f} s")
        time.sleep(0.25)
