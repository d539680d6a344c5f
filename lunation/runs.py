"""Workflow runs with their steps, and starting one."""

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import NotFound
from google.cloud.workflows.executions_v1 import Execution

from lunation.clients import Clients
from lunation.deploy.names import WORKFLOW

_EXECUTION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_WHOLE = re.compile(r"(?:projects/.+/executions|\d{4}-\d{2}-\d{2})/([^/]+)")
"""An execution's full name, or a model version."""


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

    @property
    def seconds(self) -> float:
        """From its beginning to its last change."""
        return (moment(self.ended) - moment(self.started)).total_seconds()


def workflow_path(clients: Clients) -> str:
    """Full name of the retraining workflow."""
    return f"{clients.location}/workflows/{WORKFLOW}"


def executions(clients: Clients, limit: int = 20) -> list[Execution]:
    """The newest executions, each in full."""
    found = clients.executions.list_executions(
        request={"parent": workflow_path(clients), "page_size": limit, "view": "FULL"}
    )
    return [execution for _, execution in zip(range(limit), found, strict=False)]


def short_id(name: str) -> str:
    """What all tables call a run, and every command takes for it: the beginning of its execution's id, which is the end
    of its run id and of its model version (workflows/retrain.yaml). What is named otherwise stays as it is."""
    whole = _WHOLE.fullmatch(name)
    last = whole[1] if whole is not None else name
    if _EXECUTION_ID.fullmatch(last):
        return last[:8]
    return last[-8:] if _RUN_ID.fullmatch(last) else last


def execution(clients: Clients, name: str) -> Execution | None:
    """An execution in full; None: it is gone. Workflows keeps them for 90 days (https://cloud.google.com/workflows/quotas)."""
    try:
        return clients.executions.get_execution(name=name)
    except NotFound:
        return None


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


def moment(stamp: str) -> datetime:
    """A time as Google's REST APIs write it: UTC, with up to nine digits behind the second."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}").replace(tzinfo=UTC)


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
