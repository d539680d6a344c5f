"""Services that are still at work: what a killed deployment had asked for is not finished when the next one looks.

Google goes on with an operation whose caller has died. The laptop's servers, and the project that is kept in memory,
finish such things at once or within seconds, so this judge shows them as Google does meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.cloud.dataflow_v1beta3.types import JobState
from google.cloud.datastore_admin_v1.types import Index
from google.cloud.devtools.cloudbuild_v1.types import Build
from google.cloud.functions_v2.types import Function
from google.protobuf.message import Message

from laptop.errors import ServiceError, not_found
from rehearsal.judge import Judge
from rehearsal.recorder import Call

LOOKS = 3
"""How often a run sees a thing unfinished once it has planned: at that row, and when it waits. Planning sees it so."""

FUNCTIONS = "google.cloud.functions.v2.FunctionService"
SERVICES = "google.cloud.run.v2.Services"
INDEXES = "google.datastore.admin.v1.DatastoreAdmin"
BUILDS = "google.devtools.cloudbuild.v1.CloudBuild"
REGISTRY = "google.devtools.artifactregistry.v1.ArtifactRegistry"
TEMPLATES = "google.dataflow.v1beta3.FlexTemplatesService"
JOBS = "google.dataflow.v1beta3.JobsV1Beta3"


@dataclass
class _Thing:
    method: str
    """What asked for it."""
    name: str
    looks: int = LOOKS


class AtWork(Judge):
    """Shows what one run has begun as unfinished to the next run, until that has looked often enough."""

    def __init__(self) -> None:
        self.counts = False
        """Whether looks are counted: those of a run that has planned are, those of whoever watches it are not."""
        self._now: list[_Thing] = []
        self._next: list[_Thing] = []

    def begin(self, call: Call) -> None:
        """What ``call`` has asked for is not finished when the next run begins.

        Raises:
            KeyError: its service has nothing to be at work on, or :data:`NAMES` does not know it.
        """
        self._next.append(_Thing(call.method, NAMES[call.method](call.request)))

    @property
    def busy(self) -> bool:
        """Whether anything is unfinished now."""
        return bool(self._unfinished())

    def turn(self) -> None:
        """A run has ended: what it saw unfinished is finished, what it has begun is not."""
        self._now, self._next = self._next, []

    def before(self, call: Call) -> None:
        """Refuse what the service refuses meanwhile.

        Raises:
            ServiceError: NOT_FOUND for what is only there in the end: the Cloud Run service of a function, the tag of
                an image. ABORTED for another change to a function
                (https://github.com/firebase/firebase-tools/issues/10731).
        """
        request: Any = call.request
        for thing in self._unfinished():
            if thing.method == f"{FUNCTIONS}.CreateFunction":
                if call.method.startswith(SERVICES) and request.resource == _service(thing.name):
                    raise not_found(request.resource)
                if thing.name == _changed(call.method, request):
                    raise ServiceError("ABORTED", "unable to queue the operation")
            elif call.method == f"{REGISTRY}.GetTag" and thing.name == _image(request.name):
                self._look(thing)
                raise not_found(request.name)

    def after(self, call: Call, answer: Message) -> Message:
        """Show what is not finished as such."""
        for thing in self._unfinished():
            show = SHOWN.get((thing.method, call.method))
            if show is None:
                continue
            shown = type(answer)()
            shown.CopyFrom(answer)
            if show(shown, thing.name):
                self._look(thing)
                answer = shown
        return answer

    def _unfinished(self) -> list[_Thing]:
        return [thing for thing in self._now if thing.looks > 0]

    def _look(self, thing: _Thing) -> None:
        if self.counts:
            thing.looks -= 1


def _described(index: Any) -> str:
    return f"{index.kind}({', '.join(f'{one.name} {one.direction}' for one in index.properties)})"


def _service(function: str) -> str:
    return function.replace("/functions/", "/services/")


def _changed(method: str, request: Any) -> str:
    """The function that a call would change."""
    if method == f"{FUNCTIONS}.UpdateFunction":
        return str(request.function.name)
    return str(request.name) if method == f"{FUNCTIONS}.DeleteFunction" else ""


def _image(tag: str) -> str:
    """What an image is called by its tag's name: ``<package>:<tag>``."""
    parts = tag.split("/")
    return f"{parts[-3]}:{parts[-1]}"


NAMES: dict[str, Callable[[Any], str]] = {
    f"{FUNCTIONS}.CreateFunction": lambda request: f"{request.parent}/functions/{request.function_id}",
    f"{INDEXES}.CreateIndex": lambda request: _described(request.index),
    f"{BUILDS}.CreateBuild": lambda request: request.build.images[0].rsplit("/", 1)[1],
    f"{TEMPLATES}.LaunchFlexTemplate": lambda request: request.launch_parameter.job_name,
}
"""What a service can still be at work on, by the method that asks for it: what it is called."""


def _deploying(functions: list[Any], name: str) -> bool:
    """``DEPLOYING``: "Function is being created or updated"; Cloud Run has no service, so there is no address."""
    found = [function for function in functions if function.name == name]
    for function in found:
        function.state = Function.State.DEPLOYING
        function.url = function.service_config.uri = ""
    return bool(found)


def _creating(indexes: list[Any], name: str) -> bool:
    """``CREATING``: "The index is being created, and cannot be used by queries"."""
    found = [index for index in indexes if _described(index) == name]
    for index in found:
        index.state = Index.State.CREATING
    return bool(found)


def _queued(jobs: list[Any], name: str) -> bool:
    """``JOB_STATE_QUEUED``: "the job has been created but is being delayed until launch"."""
    found = [job for job in jobs if job.name == name and job.current_state == JobState.JOB_STATE_RUNNING]
    for job in found:
        job.current_state = JobState.JOB_STATE_QUEUED
    return bool(found)


def _working(builds: list[Any], name: str) -> bool:
    """``WORKING``: "Build or step is being executed"."""
    found = [build for build in builds if any(image.endswith(f"/{name}") for image in build.images)]
    for build in found:
        build.status = Build.Status.WORKING
    return bool(found)


# The words are those of the client packages, which have them from the services' definitions.
SHOWN: dict[tuple[str, str], Callable[[Any, str], bool]] = {
    (f"{FUNCTIONS}.CreateFunction", f"{FUNCTIONS}.GetFunction"): lambda one, name: _deploying([one], name),
    (f"{FUNCTIONS}.CreateFunction", f"{FUNCTIONS}.ListFunctions"): lambda all_, name: _deploying(all_.functions, name),
    (f"{INDEXES}.CreateIndex", f"{INDEXES}.GetIndex"): lambda one, name: _creating([one], name),
    (f"{INDEXES}.CreateIndex", f"{INDEXES}.ListIndexes"): lambda all_, name: _creating(all_.indexes, name),
    (f"{BUILDS}.CreateBuild", f"{BUILDS}.ListBuilds"): lambda all_, name: _working(all_.builds, name),
    (f"{TEMPLATES}.LaunchFlexTemplate", f"{JOBS}.GetJob"): lambda one, name: _queued([one], name),
    (f"{TEMPLATES}.LaunchFlexTemplate", f"{JOBS}.ListJobs"): lambda all_, name: _queued(all_.jobs, name),
}
"""How a thing looks meanwhile, by what asked for it and who looks."""
