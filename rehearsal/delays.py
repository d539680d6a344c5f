"""Refuses for a while what needs something that was made just now, on a clock that whoever deploys moves.

The table is :mod:`rehearsal.not_yet`. What was refused first and answered later is counted. Whoever waits by the clock
waits no real time.
"""

from collections.abc import Iterable
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from rehearsal.agents import asked_for, made_by
from rehearsal.judge import Judge
from rehearsal.not_yet import DELAYS, Delay
from rehearsal.policy_writes import written
from rehearsal.project import NUMBER, Project
from rehearsal.recorder import Call

KNOWN_SECONDS = 24 * 3600.0
"""After so long all is known everywhere."""
FAILED_JOB, FAILED_FUNCTION, CREATING_TTL, ERROR = 4, 2, 1, 5
"""google.dataflow.v1beta3.JobState, google.cloud.functions.v2.Function.State, google.firestore.admin.v1.Field,
google.dataflow.v1beta3.JobMessageImportance."""
NOT_ALLOWED = (
    "Workflow failed. Causes: The workflow could not be started: Permission 'storage.objects.get' denied on resource "
    "(or it may not exist)."
)
"""In the form of https://cloud.google.com/dataflow/docs/guides/troubleshoot-permissions."""


class Delays(Judge):
    """Refuses what comes too early.

    Args:
        project: whose clock it goes by.
        delays: what is refused.
        from_first_use: what was made is known so long after it was first needed, not after it was made, for
            :data:`KNOWN_SECONDS`. So nothing is old enough because something else was waited for.
    """

    def __init__(self, project: Project, delays: Iterable[Delay] = DELAYS, *, from_first_use: bool = False) -> None:
        self.project = project
        self._delays = tuple(delays)
        self._from_first_use = from_first_use
        self.since: dict[str, float] = {}
        """When something was first known to be there, by the fact."""
        self._used: dict[str, float] = {}
        self._members: dict[str, set[tuple[str, str]]] = {}
        self._refused: set[tuple[str, str]] = set()
        self._made: set[tuple[str, str]] = set()
        self._operations: dict[str, str] = {}
        self._failed: set[str] = set()

    @property
    def refused_then_made(self) -> int:
        """How many calls were refused at first and answered later."""
        return len(self._made)

    @property
    def still_refused(self) -> list[str]:
        """Those that were never answered, but for reads: a refusal may have told enough."""
        return sorted(f"{method} {subject}" for method, subject in self._refused - self._made if not _reads(method))

    def age(self, fact: str) -> float:
        """For how many seconds something has been known to be there; endless if nobody saw it made."""
        if fact not in self.since:
            return float("inf")
        age = self.project.clock.now - self.since[fact]
        if not self._from_first_use or age >= KNOWN_SECONDS:
            return age
        return self.project.clock.now - self._used.setdefault(fact, self.project.clock.now)

    def sees(self, fact: str, *, anew: bool = False) -> None:
        """Note that something is there from now on, or if ``anew`` that another one is."""
        if anew or fact not in self.since:
            self.since[fact] = self.project.clock.now
            self._used.pop(fact, None)

    def granted(self, member: str, resource: str = "") -> float:
        """For how many seconds a member has had all that it has, on one resource or anywhere; none, if that is none."""
        ages = [
            self.age(f"grant/{where} {role} {who}")
            for where, bindings in self._members.items()
            for role, who in bindings
            if who == member and resource in ("", where)
        ]
        return min(ages, default=0.0)

    # --- judging

    def before(self, call: Call) -> None:
        """Refuse it, if what it needs is too young.

        Raises:
            ServiceError: in the service's words.
        """
        # All of it, so that what is waited for begins to be known at the same time.
        needed = [(delay.seconds, age, error) for delay in self._delays for age, error in delay.looks(call, self)]
        for seconds, age, error in needed:
            if age < seconds:
                self._refused.add(_key(call))
                raise error

    def after(self, call: Call, answer: Message) -> Message:
        """Note what was made, and let fail afterwards what fails only then."""
        key = _key(call)
        if key in self._refused:
            self._made.add(key)
        self._note(call)
        return self._late(call, answer)

    def after_storage(self, call: Call, status: int, body: bytes) -> bytes:
        """The same for Cloud Storage."""
        if status < 400:
            if _key(call) in self._refused:
                self._made.add(_key(call))
            self._note(call)
        return body

    def _note(self, call: Call) -> None:
        request: Any = call.request
        for resource, bindings in written(call):
            self._members[resource] = bindings
            for role, member in bindings:
                self.sees(f"grant/{resource} {role} {member}")
        asked = asked_for(call)
        if asked is not None:
            self.sees(f"account/{asked.email}")
        self.project.agents |= {agent.email for agent in made_by(call)}
        match call.method.rsplit(".", 1)[1]:
            case "EnableService":
                self.sees(f"api/{request.name.rsplit('/', 1)[1]}")
            case "DisableService":
                self.since.pop(f"api/{request.name.rsplit('/', 1)[1]}", None)
            case "CreateServiceAccount":
                fact = f"account/{request.account_id}@{self.project.project}.iam.gserviceaccount.com"
                self.sees(fact, anew=True)
            case "CreateRole":
                self.sees(f"role/{request.parent}/roles/{request.role_id}", anew=True)
            case "UndeleteRole":
                self.sees(f"role/{request.name}", anew=True)
            case "UpdateField":
                self.sees(f"field/{request.field.name}", anew=True)

    # --- what fails only afterwards

    def _late(self, call: Call, answer: Any) -> Message:
        """A build that fails, a job that fails, a field whose change goes on; as the table says."""
        late = {delay.name: delay.seconds for delay in self._delays}
        request: Any = call.request
        match call.method.rsplit(".", 1)[1]:
            case "CreateFunction" | "UpdateFunction" if "function build" in late:
                return self._build(request, answer, late["function build"])
            case "LaunchFlexTemplate" if "job" in late:
                return self._launch(request, answer, late["job"])
            case "UpdateField" if "index" in late:
                return self._change_field(request, answer)
            case "GetOperation":
                return self._operation(request, answer, late)
            case "ListJobMessages" if request.job_id in self._failed:
                told = type(answer).FromString(answer.SerializeToString())
                told.job_messages.add(message_importance=ERROR, message_text=NOT_ALLOWED)
                return told
            case "GetFunction" | "ListFunctions":
                told = type(answer).FromString(answer.SerializeToString())
                for function in getattr(told, "functions", [told]):
                    if function.name in self._failed:
                        function.state = FAILED_FUNCTION
                return told
            case "GetField" if self.age(f"field/{request.name}") < late.get("index", 0) and answer.HasField(
                "ttl_config"
            ):
                told = type(answer).FromString(answer.SerializeToString())
                told.ttl_config.state = CREATING_TTL
                return told
        return answer

    def _build(self, request: Any, answer: Any, seconds: float) -> Message:
        name = request.function.name or f"{request.parent}/functions/{request.function_id}"
        self._failed.discard(name)
        account = request.function.build_config.service_account.rsplit("/", 1)[-1]
        if account and self.granted(f"serviceAccount:{account}") < seconds:
            self._operations[answer.name] = name
            self._refused.add(("build", name))
        elif ("build", name) in self._refused:
            self._made.add(("build", name))
        return answer

    def _launch(self, request: Any, answer: Any, seconds: float) -> Message:
        wanted = request.launch_parameter
        key = ("job", wanted.job_name)
        if self.granted(f"serviceAccount:{wanted.environment.service_account_email}") < seconds:
            self.project.things[f"jobs/{answer.job.id}"].current_state = FAILED_JOB
            self._failed.add(answer.job.id)
            self._refused.add(key)
        elif key in self._refused:
            self._made.add(key)
        return answer

    def _change_field(self, request: Any, answer: Any) -> Message:
        """It goes on until its time is over, or until somebody waits for it: then that time passes."""
        told = operations_pb2.Operation(name=answer.name)
        self._operations[answer.name] = request.field.name
        return told

    def _operation(self, request: Any, answer: Any, late: dict[str, float]) -> Message:
        about = self._operations.get(request.name)
        if about is None or not answer.done:
            return answer
        if "/functions/" in about:
            self._failed.add(about)
            failed = operations_pb2.Operation(name=answer.name, done=True)
            failed.error.code, failed.error.message = 13, _not_built(about)
            return failed
        self.project.clock.sleep(max(0.0, late["index"] - self.age(f"field/{about}")))
        return answer


def _not_built(function: str) -> str:
    _, _, _, region, _, name = function.split("/")
    bucket = f"gcf-v2-sources-{NUMBER}-{region}"
    return (
        "Build failed with status: FAILURE and message: failed to Fetch: failed to download archive "
        f"gs://{bucket}/{name}/function-source.zip: Access to bucket {bucket} denied. You must grant Storage Object "
        "Viewer permission to the build's service account."
    )


def _reads(method: str) -> bool:
    return method.rsplit(".", 1)[-1].lower().startswith(("get", "list"))


def _key(call: Call) -> tuple[str, str]:
    """What a call is about: the same one, made again, has the same."""
    if isinstance(call.request, str):
        return call.method, call.request.partition("?")[0]
    request: Any = call.request
    parts = []
    for field, value in request.ListFields():
        if isinstance(value, str):
            parts.append(value)
        elif field.message_type is not None and not field.is_repeated and field.name not in ("policy", "options"):
            inner = [getattr(value, name, "") for name in ("name", "kind", "job_name")]
            parts += [one for one in inner if isinstance(one, str) and one]
    return call.method, " ".join(parts)
