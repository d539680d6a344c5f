"""The RPCs of Workflows and of Workflow Executions."""

import asyncio
import json
import logging
import re
import secrets
import uuid
from typing import Any

import aiohttp
from aiohttp import web
from google.cloud.workflows.executions_v1 import ExecutionsClient
from google.cloud.workflows.executions_v1 import types as runs
from google.cloud.workflows_v1 import WorkflowsClient, types
from google.protobuf import empty_pb2, field_mask_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from laptop import documents, operations
from laptop.errors import ServiceError, already_exists, invalid, not_found
from laptop.identity import Identity
from laptop.operations import Operations
from laptop.service import Api, Context, surfaces
from laptop.store import Store
from laptop.surface import HttpRoute, rpcs_of
from laptop.workflows import interpreter, journal, program
from laptop.workflows.errors import RaisedError, SourceError
from laptop.workflows.errors import error as workflow_error
from laptop.workflows.program import Routine, Step
from laptop.workflows.values import json_value

Workflow: Any = types.Workflow.pb()
ListWorkflowsResponse: Any = types.ListWorkflowsResponse.pb()
OperationMetadata: Any = types.OperationMetadata.pb()
Execution: Any = runs.Execution.pb()
ListExecutionsResponse: Any = runs.ListExecutionsResponse.pb()
State = runs.Execution.State

SCHEMA = (
    operations.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS workflow (name TEXT PRIMARY KEY, message BLOB NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS execution (
    name TEXT PRIMARY KEY, workflow TEXT NOT NULL, number INTEGER NOT NULL, message BLOB NOT NULL,
    source TEXT NOT NULL, variables TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outcome (
    execution TEXT NOT NULL, number INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (execution, number));
CREATE TABLE IF NOT EXISTS step (
    execution TEXT NOT NULL, number INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (execution, number));
"""
)
NAME = re.compile(r"projects/[^/]+/locations/[^/]+/workflows/[A-Za-z]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
FIELDS = {"description", "labels", "service_account", "source_contents", "call_log_level", "user_env_vars",
          "execution_history_level"}  # fmt: skip
PARENT = "{parent=projects/*/locations/*/workflows/*}"
ONE = "{name=projects/*/locations/*/workflows/*/executions/*}"
BEYOND = ("disableConcurrencyQuotaOverflowBuffering", "executionHistoryLevel")
"""gcloud sends both. There is no quota here that an execution would have to wait for, and every step is kept anyway."""
# https://cloud.google.com/workflows/docs/reference/executions/rest: the client package has no REST transport.
EXECUTION_ROUTES = {
    "CreateExecution": [HttpRoute("post", f"/v1/{PARENT}/executions", "execution", BEYOND)],
    "ListExecutions": [HttpRoute("get", f"/v1/{PARENT}/executions")],
    "GetExecution": [HttpRoute("get", f"/v1/{ONE}")],
    "CancelExecution": [HttpRoute("post", f"/v1/{ONE}:cancel", "*")],
}
PROJECT_NUMBER = "0"
DEFAULT_ACCOUNT = f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
"""Whose identity a workflow has that names none: https://cloud.google.com/workflows/docs/authentication."""
MAX_ARGUMENT_BYTES = 32 * 1024
MAX_VARIABLES = 20
MAX_VARIABLE_BYTES = 4 * 1024
MAX_PAGE = 1000
STEP_TYPES = {"assign": "STEP_ASSIGN", "call": "STEP_STD_LIB_CALL", "switch": "STEP_SWITCH", "for": "STEP_FOR",
              "try": "STEP_TRY", "raise": "STEP_RAISE", "return": "STEP_RETURN", "steps": "STEP_STEPS"}  # fmt: skip
log = logging.getLogger("laptop")


class Workflows:
    """RPC handlers of both APIs.

    Args:
        store: its state.
        identity: signs the tokens that a workflow's calls carry.
    """

    def __init__(self, store: Store, identity: Identity) -> None:
        self.operations = Operations(store)
        self._store = store
        self._identity = identity
        self._deploying = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, interpreter.Run] = {}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Go on with every execution that was not at its end."""
        self._session = aiohttp.ClientSession()
        for row in self._store.read("SELECT * FROM execution"):
            execution = Execution.FromString(row["message"])
            if execution.state == State.ACTIVE:
                self._go(execution, row["source"], json.loads(row["variables"]))

    async def stop(self) -> None:
        """Stop; executions go on when the server is started again."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._store.close()

    # --- workflows

    async def create_workflow(self, request: Any) -> Any:
        """Deploy a workflow; a mistake in its source is refused."""
        workflow = Workflow()
        workflow.CopyFrom(request.workflow)
        workflow.name = f"{request.parent}/workflows/{request.workflow_id}"
        if not NAME.fullmatch(workflow.name):
            raise invalid(f"{workflow.name!r} is no workflow's name")
        async with self._deploying:
            if self._find(workflow.name) is not None:
                raise already_exists(workflow.name)
            workflow.create_time.GetCurrentTime()
            return await self._deploy(workflow, 1, "create")

    async def update_workflow(self, request: Any) -> Any:
        """Make a new revision."""
        async with self._deploying:
            return await self._update(request)

    async def _update(self, request: Any) -> Any:
        found = self._find(request.workflow.name)
        if found is None:
            raise not_found(request.workflow.name)
        workflow, revision = found
        paths = list(request.update_mask.paths) or sorted(FIELDS)
        for path in paths:
            if path not in FIELDS:
                raise invalid(f"update_mask: {path} cannot be changed; these can: {', '.join(sorted(FIELDS))}")
            workflow.ClearField(path)
        field_mask_pb2.FieldMask(paths=paths).MergeMessage(request.workflow, workflow, True, True)
        return await self._deploy(workflow, revision + 1, "update")

    async def _deploy(self, workflow: Any, revision: int, verb: str) -> Any:
        try:
            await _load(workflow.source_contents)
        except SourceError as error:
            raise invalid(f"{workflow.name.rsplit('/', 1)[1]}: {error}") from error
        _check_variables(dict(workflow.user_env_vars))
        workflow.state = types.Workflow.State.ACTIVE
        workflow.revision_id = f"{revision:06d}-{secrets.token_hex(2)[:3]}"
        workflow.update_time.GetCurrentTime()
        workflow.revision_create_time.GetCurrentTime()
        row = (workflow.name, workflow.SerializeToString(), revision)
        await self._store.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO workflow VALUES (?, ?, ?)", row)
        )
        return await self._done(workflow.name, verb, workflow)

    async def get_workflow(self, request: Any) -> Any:
        """Look at a workflow."""
        found = self._find(request.name)
        if found is None:
            raise not_found(request.name)
        return found[0]

    async def list_workflows(self, request: Any) -> Any:
        """The workflows of a location, by name. Filters and other orders are refused."""
        _refuse("ListWorkflows", filter=request.filter, order_by=request.order_by)
        start, size = _page(request)
        prefix = request.parent.removesuffix("-").rstrip("/") + "/"
        rows = self._store.read(
            "SELECT message FROM workflow WHERE substr(name, 1, ?) = ? ORDER BY name LIMIT ? OFFSET ?",
            (len(prefix), prefix, size + 1, start),
        )
        found = [Workflow.FromString(row["message"]) for row in rows]
        token = str(start + size) if len(found) > size else ""
        return ListWorkflowsResponse(workflows=found[:size], next_page_token=token)

    async def delete_workflow(self, request: Any) -> Any:
        """Forget a workflow with its executions."""
        if self._find(request.name) is None:
            raise not_found(request.name)
        prefix = f"{request.name}/executions/"
        tasks = [task for name, task in self._tasks.items() if name.startswith(prefix)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        def work(connection: Any) -> None:
            connection.execute("DELETE FROM workflow WHERE name = ?", (request.name,))
            connection.execute("DELETE FROM execution WHERE workflow = ?", (request.name,))
            for table in ("outcome", "step"):
                sql = {"outcome": "DELETE FROM outcome WHERE substr(execution, 1, ?) = ?",
                       "step": "DELETE FROM step WHERE substr(execution, 1, ?) = ?"}[table]  # fmt: skip
                connection.execute(sql, (len(prefix), prefix))

        await self._store.write(work)
        return await self._done(request.name, "delete", empty_pb2.Empty())

    async def _done(self, target: str, verb: str, response: Message) -> Any:
        metadata = OperationMetadata(target=target, verb=verb, api_version="v1")
        metadata.create_time.GetCurrentTime()
        metadata.end_time.GetCurrentTime()
        parent = target.partition("/workflows/")[0]
        return await self.operations.finished(f"{parent}/operations/{uuid.uuid4().hex}", metadata, response)

    def _find(self, name: str) -> tuple[Any, int] | None:
        rows = self._store.read("SELECT * FROM workflow WHERE name = ?", (name,))
        return (Workflow.FromString(rows[0]["message"]), rows[0]["revision"]) if rows else None

    # --- executions

    async def create_execution(self, request: Any) -> Any:
        """Start an execution of the newest revision."""
        found = self._find(request.parent)
        if found is None:
            raise not_found(request.parent)
        workflow, _ = found
        execution = Execution()
        execution.argument = request.execution.argument
        execution.labels.update(request.execution.labels)
        if len(execution.argument.encode()) > MAX_ARGUMENT_BYTES:
            raise invalid(f"execution.argument has more than {MAX_ARGUMENT_BYTES // 1024} KB")
        if execution.argument:
            try:
                documents.parsed(execution.argument)
            except documents.DocumentError as error:
                raise invalid(f"execution.argument is not JSON: {error}") from error
        execution.name = f"{request.parent}/executions/{uuid.uuid4()}"
        execution.state = State.ACTIVE
        execution.workflow_revision_id = workflow.revision_id
        execution.start_time.GetCurrentTime()
        _, project, _, location, _, short = request.parent.split("/")
        variables = {
            **workflow.user_env_vars,
            # https://cloud.google.com/workflows/docs/reference/environment-variables lists them.
            "GOOGLE_CLOUD_PROJECT_ID": project,
            "GOOGLE_CLOUD_PROJECT_NUMBER": PROJECT_NUMBER,
            "GOOGLE_CLOUD_LOCATION": location,
            "GOOGLE_CLOUD_WORKFLOW_ID": short,
            "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": execution.name.rsplit("/", 1)[1],
            "GOOGLE_CLOUD_WORKFLOW_REVISION_ID": workflow.revision_id,
            "GOOGLE_CLOUD_SERVICE_ACCOUNT_NAME": workflow.service_account.rsplit("/", 1)[-1] or DEFAULT_ACCOUNT,
        }
        body = execution.SerializeToString()
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO execution VALUES (?, ?, (SELECT COUNT(*) FROM execution), ?, ?, ?)",
                (execution.name, request.parent, body, workflow.source_contents, json.dumps(variables)),
            )
        )
        self._go(execution, workflow.source_contents, variables)
        return execution

    async def get_execution(self, request: Any) -> Any:
        """Look at an execution."""
        return self._execution(request.name)

    async def list_executions(self, request: Any) -> Any:
        """The executions of a workflow, newest first. Filters and other orders are refused."""
        _refuse("ListExecutions", filter=request.filter, order_by=request.order_by)
        start, size = _page(request)
        rows = self._store.read(
            "SELECT message FROM execution WHERE workflow = ? ORDER BY number DESC LIMIT ? OFFSET ?",
            (request.parent, size + 1, start),
        )
        found = [Execution.FromString(row["message"]) for row in rows]
        if request.view != runs.ExecutionView.FULL:
            for one in found:
                for field in ("argument", "result", "error"):
                    one.ClearField(field)
        token = str(start + size) if len(found) > size else ""
        return ListExecutionsResponse(executions=found[:size], next_page_token=token)

    async def cancel_execution(self, request: Any) -> Any:
        """Stop an execution."""
        execution = self._execution(request.name)
        if execution.state != State.ACTIVE:
            raise ServiceError("FAILED_PRECONDITION", f"{request.name} has ended")
        task = self._tasks.get(request.name)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        execution = self._execution(request.name)
        if execution.state == State.ACTIVE:  # or it came to its end just before
            await self._end(execution, State.CANCELLED)
        return execution

    async def step_entries(self, request: web.Request) -> web.Response:
        """https://cloud.google.com/workflows/docs/reference/executions/rest/v1/…/stepEntries/list"""
        name = request.match_info["name"]
        try:
            self._execution(name)
        except ServiceError as error:
            return web.json_response(error.body(), status=error.http_status)
        try:
            size = min(max(0, int(request.query.get("pageSize") or 0)) or MAX_PAGE, MAX_PAGE)
            start = max(0, int(request.query.get("pageToken") or 0))
        except ValueError:
            return web.json_response(invalid("pageSize and pageToken are numbers").body(), status=400)
        rows = self._store.read(
            "SELECT document FROM step WHERE execution = ? ORDER BY number LIMIT ? OFFSET ?", (name, size + 1, start)
        )
        total = self._store.read("SELECT COUNT(*) AS n FROM step WHERE execution = ?", (name,))[0]["n"]
        answer = {"stepEntries": [json.loads(row["document"]) for row in rows[:size]], "totalSize": total}
        if len(rows) > size:
            answer["nextPageToken"] = str(start + size)
        return web.json_response(answer)

    # --- inside

    def _execution(self, name: str) -> Any:
        rows = self._store.read("SELECT message FROM execution WHERE name = ?", (name,))
        if not rows:
            raise not_found(name)
        execution = Execution.FromString(rows[0]["message"])
        run = self._runs.get(name)
        if run is not None:
            for routine, step in run.current:
                execution.status.current_steps.add(routine=routine, step=step)
        return execution

    def _go(self, execution: Any, source: str, variables: dict[str, str]) -> None:
        task = asyncio.create_task(self._run(execution, source, variables))
        self._tasks[execution.name] = task
        task.add_done_callback(lambda _: self._tasks.pop(execution.name, None))

    async def _run(self, execution: Any, source: str, variables: dict[str, str]) -> None:
        assert self._session is not None
        account = variables["GOOGLE_CLOUD_SERVICE_ACCOUNT_NAME"]

        def authorize(kind: str, audience: str | None, url: str) -> str:
            origin = "/".join(url.split("/")[:3])
            return f"Bearer {self._identity.token(account, audience or origin if kind == 'OIDC' else 'laptop')}"

        try:
            routines = await _load(source)
            rows = _Journal(self._store, execution.name, set(routines))
            run = interpreter.Run(routines, rows, variables, self._session, authorize)
            self._runs[execution.name] = run
            result = await run.main(_argument(execution.argument))
            execution.result = _result(result)
            await self._end(execution, State.SUCCEEDED)
        except RaisedError as failure:
            execution.error.payload = json.dumps(failure.value, default=str)
            message = failure.value.get("message") if isinstance(failure.value, dict) else failure.value
            execution.error.context = str(message)
            for routine, step, line in failure.trace:
                if line:
                    execution.error.context += f'\nin step "{step}", routine "{routine}", line: {line}'
                element = execution.error.stack_trace.elements.add(step=step, routine=routine)
                element.position.line = line
            await self._end(execution, State.FAILED)
        except Exception as error:
            log.exception("%s failed inside the interpreter", execution.name)
            execution.error.payload = json.dumps({"message": f"SystemError: {error}", "tags": ["SystemError"]})
            execution.error.context = str(error)
            await self._end(execution, State.FAILED)
        finally:
            self._runs.pop(execution.name, None)

    async def _end(self, execution: Any, state: int) -> None:
        execution.state = state
        execution.end_time.GetCurrentTime()
        nanos = execution.end_time.ToNanoseconds() - execution.start_time.ToNanoseconds()
        execution.duration.FromNanoseconds(nanos)
        body = execution.SerializeToString()
        await self._store.write(
            lambda connection: connection.execute(
                "UPDATE execution SET message = ? WHERE name = ?", (body, execution.name)
            )
        )


async def _load(source: str) -> dict[str, Routine]:
    """The program of a source. Nobody waits for it but the caller: a large source takes some seconds."""
    return await asyncio.to_thread(program.load, source)


class _Journal:
    """One execution's rows.

    Args:
        store: of the server.
        execution: its name.
        routines: the workflow's own, to tell their calls from the library's.
    """

    def __init__(self, store: Store, execution: str, routines: set[str]) -> None:
        self._store = store
        self._execution = execution
        self._routines = routines
        rows = store.read("SELECT number, value FROM outcome WHERE execution = ?", (execution,))
        self._known = {row["number"]: journal.decode(row["value"]) for row in rows}
        steps = store.read("SELECT number, document FROM step WHERE execution = ?", (execution,))
        self._steps: dict[int, dict[str, Any]] = {row["number"]: json.loads(row["document"]) for row in steps}

    def find(self, number: int) -> dict[str, Any] | None:
        return self._known.get(number)

    async def keep(self, number: int, outcome: dict[str, Any]) -> None:
        row = (self._execution, number, journal.encode(outcome))
        await self._store.write(lambda connection: connection.execute("INSERT INTO outcome VALUES (?, ?, ?)", row))

    async def step_begins(self, number: int, routine: str, step: Step) -> None:
        if number in self._steps:
            return  # this run was here before
        now = _now()
        own = step.kind == "call" and step.fields["call"] in self._routines
        document = {
            "name": f"{self._execution}/stepEntries/{number}",
            "createTime": now,
            "updateTime": now,
            "routine": routine,
            "step": step.name,
            "stepType": "STEP_SUBWORKFLOW_CALL" if own else STEP_TYPES[step.kind],
            "state": "STATE_IN_PROGRESS",
            "entryId": str(number),
        }
        await self._write(number, document)

    async def step_ends(self, number: int, failure: Any) -> None:
        document = self._steps[number]
        if document["state"] != "STATE_IN_PROGRESS":
            return
        document["updateTime"] = _now()
        document["state"] = "STATE_SUCCEEDED" if failure is None else "STATE_FAILED"
        if failure is not None:
            document["exception"] = {"payload": json.dumps(failure, default=str)}
        await self._write(number, document)

    async def _write(self, number: int, document: dict[str, Any]) -> None:
        self._steps[number] = document
        row = (self._execution, number, json.dumps(document))
        await self._store.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO step VALUES (?, ?, ?)", row)
        )

    def log(self, text: str) -> None:
        log.info("%s: %s", self._execution.rsplit("/", 1)[1], text)


def _check_variables(variables: dict[str, str]) -> None:
    if len(variables) > MAX_VARIABLES:
        raise invalid(f"user_env_vars: at most {MAX_VARIABLES}, not {len(variables)}")
    for name, value in variables.items():
        if not program.IDENTIFIER.fullmatch(name) or name.startswith(("GOOGLE", "WORKFLOWS")):
            raise invalid(f"user_env_vars: {name!r}: letters, digits and _, not beginning with GOOGLE or WORKFLOWS")
        if len(value.encode()) > MAX_VARIABLE_BYTES:
            raise invalid(f"user_env_vars: {name} has more than {MAX_VARIABLE_BYTES // 1024} KB")


def _page(request: Any) -> tuple[int, int]:
    """Where a page starts, and its size."""
    try:
        return int(request.page_token or 0), min(request.page_size or 100, MAX_PAGE)
    except ValueError:
        raise invalid(f"page_token {request.page_token!r} is none that this server gave out") from None


def _refuse(call: str, **given: str) -> None:
    for name, value in given.items():
        if value:
            raise ServiceError("UNIMPLEMENTED", f"{call}: {name} is not served on a laptop (LIMITATIONS.md)")


def _argument(text: str) -> Any:
    try:
        return json_value(text) if text else None
    except (ValueError, RecursionError) as cause:
        raise workflow_error("ValueError", f"the argument cannot be read: {cause}") from None


def _result(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as cause:
        raise workflow_error("ValueError", f"the result cannot be encoded as JSON: {cause}") from None


def _now() -> str:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return str(stamp.ToJsonString())


def build(context: Context) -> Api:
    """Workflows and Workflow Executions on loopback."""
    store = Store(context.folder("workflows") / "state.sqlite", SCHEMA)
    service = Workflows(store, Identity(context.state))
    path = r"/v1/{name:projects/[^/]+/locations/[^/]+/workflows/[^/]+/executions/[^/]+}/stepEntries"
    return Api(
        rpcs=[*surfaces(WorkflowsClient), *rpcs_of(ExecutionsClient, EXECUTION_ROUTES)],
        handlers=[service, service.operations],
        routes=[web.get(path, service.step_entries)],
        start=service.start,
        stop=service.stop,
    )
