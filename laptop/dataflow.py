"""Dataflow: launches Flex Templates as processes with the micro-batch runner, and keeps streaming jobs running.

A template's image is, here, a zip in Cloud Storage of what its Dockerfile copies to ``/template``; the launcher and
its path are read from the ``ENV`` lines of the Dockerfile in that zip.
"""

import asyncio
import io
import json
import logging
import os
import re
import secrets
import shutil
import sys
import time
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
from google.cloud.dataflow_v1beta3 import FlexTemplatesServiceClient, JobsV1Beta3Client, MessagesV1Beta3Client, types

from laptop.children import Child, Guard, tail
from laptop.errors import ServiceError, invalid, not_found
from laptop.service import Api, Context, main, surfaces
from laptop.store import Store

Job: Any = types.Job.pb()
LaunchFlexTemplateResponse: Any = types.LaunchFlexTemplateResponse.pb()
ListJobsResponse: Any = types.ListJobsResponse.pb()
ListJobMessagesResponse: Any = types.ListJobMessagesResponse.pb()
State = types.JobState

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, made REAL NOT NULL, message BLOB NOT NULL, launch TEXT NOT NULL);
"""
RUNNER = "laptop.micro_batch.MicroBatchRunner"
TEMPLATE_ROOT = "/template"
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
ENDED = {State.JOB_STATE_DONE, State.JOB_STATE_FAILED, State.JOB_STATE_CANCELLED, State.JOB_STATE_DRAINED,
         State.JOB_STATE_UPDATED}  # fmt: skip
STOP_SECONDS = 30.0
DRAIN_SECONDS = 900.0
MAX_PAGE = 1000
# Parts of a launch that would change what the job does, and that a laptop has nothing for.
REFUSED = ("container_spec", "launch_options", "transform_name_mappings")
REFUSED_OF_ENVIRONMENT = (
    "additional_experiments",
    "additional_pipeline_options",
    "kms_key_name",
    "sdk_container_image",
)
BACKOFF_SECONDS = (0.5, 20.0)
BAD_ARGUMENTS = 2
"""The exit code by which a launcher says that it will never work."""
JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
log = logging.getLogger("laptop")


class Dataflow:
    """RPC handlers.

    Args:
        context: where state and the other servers are.
        store: its state.
    """

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._store = store
        self._folder = context.folder("dataflow")
        self._guard = Guard(STOP_SECONDS)
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._launching = asyncio.Lock()
        self._jobs: dict[str, tuple[Any, dict[str, Any]]] = {}
        """Job and launch, by id."""

    async def start(self) -> None:
        """Take up every job that was to run."""
        for row in self._store.read("SELECT * FROM job ORDER BY made"):
            job, launch = Job.FromString(row["message"]), json.loads(row["launch"])
            self._jobs[job.id] = (job, launch)
            if job.current_state == State.JOB_STATE_DRAINING:
                await self._move(job, State.JOB_STATE_DRAINED)
            elif job.current_state == State.JOB_STATE_CANCELLING:
                await self._move(job, State.JOB_STATE_CANCELLED)
            elif job.current_state not in ENDED:
                self._keepers[job.id] = asyncio.create_task(self._keep(job, launch))

    async def stop(self) -> None:
        """End the processes; the jobs go on when the server is started again."""
        tasks = [*self._keepers.values(), *self._endings.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*[child.stop(STOP_SECONDS) for child in self._children.values()])
        self._guard.close()
        self._store.close()

    # --- RPCs

    async def launch_flex_template(self, request: Any) -> Any:
        """Check the parameters against the template's metadata, unpack it, and start it."""
        wanted = request.launch_parameter
        if not JOB_NAME.fullmatch(wanted.job_name):
            raise invalid(f"job_name {wanted.job_name!r}: lower-case letters, digits and dashes")
        _refuse(wanted, REFUSED)
        _refuse(wanted.environment, REFUSED_OF_ENVIRONMENT)
        if not wanted.container_spec_gcs_path:
            raise invalid("container_spec_gcs_path is required")
        async with self._launching:  # or two of one name at the same time would both find none running
            return await self._launch(request, wanted)

    async def _launch(self, request: Any, wanted: Any) -> Any:
        spec = _spec(await self._object(wanted.container_spec_gcs_path), wanted.container_spec_gcs_path)
        metadata = spec.get("metadata") or {}
        parameters = dict(wanted.parameters)
        _check_parameters(metadata.get("parameters") or [], parameters)
        running = self._running(request.project_id, wanted.job_name)
        if running is not None and not wanted.update:
            raise ServiceError("ALREADY_EXISTS", f"a job named {wanted.job_name} runs already, with id {running.id}")
        if running is None and wanted.update:
            raise ServiceError("FAILED_PRECONDITION", f"there is no running job named {wanted.job_name} to update")
        image = spec.get("image", "")
        if not (image.startswith("gs://") and image.endswith(".zip")):
            raise ServiceError(
                "UNIMPLEMENTED", f"image {image!r}: a laptop has no container engine; it takes a zip at gs://…"
            )
        content = await self._object(image)
        identifier = f"{time.strftime('%Y-%m-%d_%H_%M_%S', time.gmtime())}-{secrets.randbelow(10**18)}"
        folder = self._folder / identifier
        try:
            launcher, path = _unpack(content, folder / "template")
        except ServiceError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if request.validate_only:
            shutil.rmtree(folder)
            return LaunchFlexTemplateResponse()
        job = Job(
            id=identifier,
            project_id=request.project_id,
            location=request.location,
            name=wanted.job_name,
            labels=wanted.environment.additional_user_labels,
        )
        # Until the runner tells better.
        job.type_ = types.JobType.JOB_TYPE_STREAMING if metadata.get("streaming") else types.JobType.JOB_TYPE_BATCH
        job.create_time.GetCurrentTime()
        job.start_time.GetCurrentTime()
        launch = {"launcher": str(launcher), "path": path, "parameters": parameters}
        self._jobs[identifier] = (job, launch)
        if running is not None:
            job.replace_job_id = running.id
            running.replaced_by_job_id = identifier
            await self._move(running, State.JOB_STATE_UPDATED)
        await self._move(job, State.JOB_STATE_PENDING)
        self._keepers[identifier] = asyncio.create_task(self._keep(job, launch, running))
        return LaunchFlexTemplateResponse(job=job)

    async def get_job(self, request: Any) -> Any:
        """Look at a job."""
        return self._job(request)

    async def list_jobs(self, request: Any) -> Any:
        """The jobs of a project and region, newest first."""
        states = {
            types.ListJobsRequest.Filter.ACTIVE: lambda job: job.current_state not in ENDED,
            types.ListJobsRequest.Filter.TERMINATED: lambda job: job.current_state in ENDED,
        }
        fits = states.get(request.filter, lambda _: True)
        jobs = [
            self._with_kind(job)
            for job, _ in reversed(self._jobs.values())
            if job.project_id == request.project_id
            and request.location in ("", "-", job.location)
            and request.name in ("", job.name)
            and fits(job)
        ]
        try:
            start = int(request.page_token or 0)
        except ValueError:
            raise invalid(f"page_token {request.page_token!r} is none that this server gave out") from None
        end = start + min(request.page_size or MAX_PAGE, MAX_PAGE)
        return ListJobsResponse(jobs=jobs[start:end], next_page_token=str(end) if len(jobs) > end else "")

    async def aggregated_list_jobs(self, request: Any) -> Any:
        """The jobs of a project in all regions."""
        anywhere = types.ListJobsRequest.pb()()
        anywhere.CopyFrom(request)
        anywhere.location = ""
        return await self.list_jobs(anywhere)

    async def list_job_messages(self, request: Any) -> Any:
        """Why a job failed: the end of what its process wrote."""
        job = self._job(request)
        if job.current_state != State.JOB_STATE_FAILED:
            return ListJobMessagesResponse()
        message = types.JobMessage.pb()(
            id="failed",
            time=job.current_state_time,
            message_text=tail(self._context.state / "logs" / f"job-{job.name}.log", 1500),
            message_importance=types.JobMessageImportance.JOB_MESSAGE_ERROR,
        )
        return ListJobMessagesResponse(job_messages=[message])

    async def update_job(self, request: Any) -> Any:
        """Drain or cancel a job. The answer does not wait for its end."""
        job = self._job(request)
        wanted = request.job.requested_state
        if wanted not in (State.JOB_STATE_DRAINED, State.JOB_STATE_CANCELLED):
            raise invalid("requested_state must be JOB_STATE_DRAINED or JOB_STATE_CANCELLED")
        if job.current_state in ENDED:
            raise ServiceError("FAILED_PRECONDITION", f"job {job.id} has ended: {State(job.current_state).name}")
        if wanted == State.JOB_STATE_DRAINED and job.type_ == types.JobType.JOB_TYPE_BATCH:
            raise ServiceError(
                "FAILED_PRECONDITION", f"job {job.id} is a batch job, which cannot be drained: cancel it"
            )
        if job.requested_state in (wanted, State.JOB_STATE_CANCELLED):
            return job
        job.requested_state = wanted
        drain = wanted == State.JOB_STATE_DRAINED
        await self._move(job, State.JOB_STATE_DRAINING if drain else State.JOB_STATE_CANCELLING)
        before = self._endings.get(job.id)
        if before is not None:
            before.cancel()  # a drain that takes too long for whoever cancels now
        self._endings[job.id] = asyncio.create_task(self._end(job, wanted, DRAIN_SECONDS if drain else STOP_SECONDS))
        return job

    # --- inside

    async def _keep(self, job: Any, launch: dict[str, Any], before: Any | None = None) -> None:
        """Run the launcher until it ends by itself; after a crash, again: what it held is delivered again.

        Args:
            before: the job that this one replaces, whose process finishes what it has read first.
        """
        if before is not None:
            await self._stop_process(before, DRAIN_SECONDS)
        pause = BACKOFF_SECONDS[0]
        while True:
            started = time.monotonic()
            if await self._run(job, launch):
                return
            if time.monotonic() - started > 30:
                pause = BACKOFF_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(BACKOFF_SECONDS[1], pause * 2)

    async def _run(self, job: Any, launch: dict[str, Any]) -> bool:
        """Run the launcher once; answers whether that was the last time."""
        output = self._context.state / "logs" / f"job-{job.name}.log"
        try:
            child = await Child.start(
                self._command(job, launch),
                cwd=self._folder / job.id,
                environment=self._environment(job, launch["path"]),
                log=output,
                watch=self._guard,
            )
        except (ServiceError, OSError) as error:
            log.warning("job %s could not be started: %s", job.name, error)
            return False
        self._children[job.id] = child
        await self._move(job, State.JOB_STATE_RUNNING)
        code = await child.wait()
        if code == 0:
            await self._move(job, State.JOB_STATE_DONE)
            return True
        log.warning("job %s ended with %s:\n%s", job.name, code, tail(output, 1500))
        if code == BAD_ARGUMENTS or self._with_kind(job).type_ == types.JobType.JOB_TYPE_BATCH:
            await self._move(job, State.JOB_STATE_FAILED)
            return True
        return False

    async def _end(self, job: Any, state: int, seconds: float) -> None:
        await self._stop_process(job, seconds)
        await self._move(job, state)
        self._endings.pop(job.id, None)

    async def _stop_process(self, job: Any, seconds: float) -> None:
        """Tell a job's process to end, and kill it if it has not after ``seconds``."""
        keeper = self._keepers.pop(job.id, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        child = self._children.get(job.id)
        if child is not None:
            await child.stop(seconds)
            self._children.pop(job.id, None)

    def _with_kind(self, job: Any) -> Any:
        """The job, with what its runner has told about its pipeline."""
        if self._kind(job).exists() and self._kind(job).read_text() == "batch":
            job.type_ = types.JobType.JOB_TYPE_BATCH
        return job

    def _kind(self, job: Any) -> Path:
        return self._folder / job.id / "kind"

    async def _move(self, job: Any, state: int) -> None:
        job.current_state = state
        job.current_state_time.GetCurrentTime()
        row = (job.id, time.time(), job.SerializeToString(), json.dumps(self._jobs[job.id][1]))
        await self._store.write(
            lambda connection: connection.execute(
                "INSERT INTO job VALUES (?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET message = excluded.message", row
            )
        )

    def _command(self, job: Any, launch: dict[str, Any]) -> list[str]:
        options = {
            **launch["parameters"],
            "runner": RUNNER,
            "project": job.project_id,
            "region": job.location,
            "job_name": job.name,
        }
        return [sys.executable, launch["launcher"], *(f"--{name}={value}" for name, value in options.items())]

    def _environment(self, job: Any, path: list[str]) -> dict[str, str]:
        ours = str(Path(__file__).resolve().parent.parent)  # the runner's own package
        return {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PYTHONPATH": os.pathsep.join([*path, ours]),
            "PYTHONUNBUFFERED": "1",
            "GOOGLE_CLOUD_PROJECT": job.project_id,
            "PUBSUB_EMULATOR_HOST": self._context.endpoint("pubsub", "grpc"),
            "STORAGE_EMULATOR_HOST": self._context.endpoint("storage"),
            "LAPTOP_DATAFLOW_KIND": str(self._kind(job)),
        }

    def _job(self, request: Any) -> Any:
        job, _ = self._jobs.get(request.job_id, (None, None))
        if job is None or job.project_id != request.project_id or request.location not in ("", job.location):
            raise not_found(f"job {request.job_id}")
        return self._with_kind(job)

    def _running(self, project: str, name: str) -> Any | None:
        for job, _ in self._jobs.values():
            if (job.project_id, job.name) == (project, name) and job.current_state not in ENDED:
                return job
        return None

    async def _object(self, uri: str) -> bytes:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        quoted = urllib.parse.quote(name, safe="")
        url = f"{self._context.endpoint('storage')}/storage/v1/b/{bucket}/o/{quoted}?alt=media"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            if response.status != 200:
                raise invalid(f"{uri} cannot be read: {response.status}")
            return await response.read()


def _refuse(message: Any, fields: tuple[str, ...]) -> None:
    for field, _ in message.ListFields():
        if field.name in fields:
            raise ServiceError("UNIMPLEMENTED", f"{field.name} is not served on a laptop (LIMITATIONS.md)")


def _spec(content: bytes, uri: str) -> dict[str, Any]:
    try:
        spec = json.loads(content)
    except ValueError as error:
        raise invalid(f"{uri} is no container spec: {error}") from error
    if not isinstance(spec, dict):
        raise invalid(f"{uri} is no container spec: a JSON object is wanted")
    return spec


def _check_parameters(declared: list[dict[str, Any]], given: dict[str, str]) -> None:
    known = {one["name"]: one for one in declared}
    for name in sorted(set(given) - set(known)):
        raise invalid(f"parameters: the template has no {name}; it has: {', '.join(sorted(known))}")
    for name, one in known.items():
        if name not in given:
            if not one.get("isOptional"):
                raise invalid(f"parameters: {name} is missing ({one.get('helpText', '')})")
            continue
        for regex in one.get("regexes", []):
            if not re.fullmatch(regex, given[name]):
                raise invalid(f"parameters: {name}: {given[name]!r} does not match {regex}")


def _unpack(content: bytes, folder: Path) -> tuple[Path, list[str]]:
    """Unpack a template; answers the launcher and the folders of its Python path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise invalid(f"the template's entry {name!r} leaves its folder")
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise invalid(f"the template's image is no zip: {error}") from error
    dockerfile = folder / "Dockerfile"
    if not dockerfile.exists():
        raise invalid("the template's zip has no Dockerfile")
    variables = dict(re.findall(r"(?m)^ENV\s+(\w+)=(\S+)", dockerfile.read_text()))
    if "FLEX_TEMPLATE_PYTHON_PY_FILE" not in variables:
        raise invalid("the template's Dockerfile sets no FLEX_TEMPLATE_PYTHON_PY_FILE")

    def here(path: str) -> str:
        return str(folder) + path.removeprefix(TEMPLATE_ROOT) if path.startswith(TEMPLATE_ROOT) else path

    path = [here(part) for part in variables.get("PYTHONPATH", "").split(":") if part]
    return Path(here(variables["FLEX_TEMPLATE_PYTHON_PY_FILE"])), path


def build(context: Context) -> Api:
    """Dataflow on loopback."""
    store = Store(context.folder("dataflow") / "state.sqlite", SCHEMA)
    service = Dataflow(context, store)
    return Api(
        rpcs=surfaces(FlexTemplatesServiceClient, JobsV1Beta3Client, MessagesV1Beta3Client),
        handlers=[service],
        start=service.start,
        stop=service.stop,
    )


if __name__ == "__main__":
    main("dataflow", build)
