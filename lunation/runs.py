"""Workflow runs with their steps, and starting one."""

import json
import time
from dataclasses import dataclass
from typing import Any

from google.cloud.workflows.executions_v1 import Execution

from lunation.clients import Clients
from lunation.deploy.table import WORKFLOW


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


def start(clients: Clients, *, force: bool) -> Execution:
    """Start the retraining workflow.

    Args:
        force: run although this is not the week of a cycle.
    """
    return clients.executions.create_execution(
        parent=workflow_path(clients), execution=Execution(argument=json.dumps({"force": force}))
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
