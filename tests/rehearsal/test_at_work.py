"""What a killed run had begun is shown as unfinished, in the words of its service, until the next run has waited."""

from typing import Any

import pytest
from google.cloud.artifactregistry_v1.types import GetTagRequest, Tag
from google.cloud.dataflow_v1beta3.types import Job, LaunchFlexTemplateRequest, ListJobsRequest, ListJobsResponse
from google.cloud.datastore_admin_v1.types import CreateIndexRequest, Index, ListIndexesRequest, ListIndexesResponse
from google.cloud.devtools.cloudbuild_v1.types import CreateBuildRequest
from google.cloud.functions_v2.types import CreateFunctionRequest, Function, GetFunctionRequest, UpdateFunctionRequest
from google.iam.v1 import iam_policy_pb2

from laptop.errors import ServiceError
from rehearsal import at_work
from rehearsal.at_work import LOOKS, AtWork
from rehearsal.recorder import Call

PARENT = "projects/p/locations/l"
TAG = f"{PARENT}/repositories/lunation/packages/archive/tags/0123"
FUNCTION = Function(name=f"{PARENT}/functions/f", state="ACTIVE", url="https://f", service_config={"uri": "https://f"})
INDEX = Index(kind="Order", state="READY", properties=[{"name": "customer", "direction": "ASCENDING"}])
JOB = Job(name="archive", current_state="JOB_STATE_RUNNING")


def call(method: str, request: Any) -> Call:
    """One of the deployer's."""
    return Call("deployer", method, type(request).pb(request) if hasattr(type(request), "pb") else request)


BEGUN = {
    "function": call(f"{at_work.FUNCTIONS}.CreateFunction", CreateFunctionRequest(parent=PARENT, function_id="f")),
    "index": call(f"{at_work.INDEXES}.CreateIndex", CreateIndexRequest(index=INDEX)),
    "image": call(
        f"{at_work.BUILDS}.CreateBuild", CreateBuildRequest(build={"images": ["host/p/lunation/archive:0123"]})
    ),
    "job": call(
        f"{at_work.TEMPLATES}.LaunchFlexTemplate", LaunchFlexTemplateRequest(launch_parameter={"job_name": "archive"})
    ),
}


def looks(judge: AtWork, look: Call, answer: Any) -> Any:
    """What somebody sees who looks, or the code of the refusal."""
    try:
        judge.before(look)
        return type(answer).wrap(judge.after(look, type(answer).pb(answer)))
    except ServiceError as error:
        return error.code.name


@pytest.mark.parametrize(
    ("begun", "look", "answer", "state"),
    [
        (
            "function",
            call(f"{at_work.FUNCTIONS}.GetFunction", GetFunctionRequest(name=FUNCTION.name)),
            FUNCTION,
            lambda seen: (seen.state.name, seen.service_config.uri),
        ),
        (
            "index",
            call(f"{at_work.INDEXES}.ListIndexes", ListIndexesRequest()),
            ListIndexesResponse(indexes=[INDEX, Index(kind="Other", state="READY")]),
            lambda seen: [one.state.name for one in seen.indexes],
        ),
        (
            "image",
            call(f"{at_work.REGISTRY}.GetTag", GetTagRequest(name=TAG)),
            Tag(name=TAG),
            lambda seen: seen if isinstance(seen, str) else seen.name,
        ),
        (
            "job",
            call(f"{at_work.JOBS}.ListJobs", ListJobsRequest()),
            ListJobsResponse(jobs=[JOB]),
            lambda seen: [one.current_state.name for one in seen.jobs],
        ),
    ],
)
def test_it_is_unfinished_for_the_next_run_alone_and_until_that_has_looked(
    begun: str, look: Call, answer: Any, state: Any
) -> None:
    """The run that began it is not told; the next one sees it so while it plans, and then for some looks; whoever
    comes after that sees it finished."""
    judge = AtWork()
    judge.begin(BEGUN[begun])
    finished = state(answer)
    unfinished = {
        "function": ("DEPLOYING", ""),
        "index": ["CREATING", "READY"],
        "image": "NOT_FOUND",
        "job": ["JOB_STATE_QUEUED"],
    }[begun]
    assert state(looks(judge, look, answer)) == finished
    judge.turn()
    assert [state(looks(judge, look, answer)) for _ in range(5)] == [unfinished] * 5, "planning takes none away"
    judge.counts = True
    assert [state(looks(judge, look, answer)) for _ in range(LOOKS + 1)] == [unfinished] * LOOKS + [finished]
    assert not judge.busy
    judge.begin(BEGUN[begun])
    judge.turn()
    judge.turn()
    assert state(looks(judge, look, answer)) == finished


def test_a_function_that_is_being_made_has_no_service_and_takes_no_other_change() -> None:
    """Cloud Run makes the service in the end, and Cloud Functions does one thing at a time."""
    judge = AtWork()
    judge.begin(BEGUN["function"])
    judge.turn()
    other = FUNCTION.name + "-http"
    for name, code in ((FUNCTION.name, "NOT_FOUND"), (other, None)):
        service = iam_policy_pb2.GetIamPolicyRequest(resource=name.replace("/functions/", "/services/"))
        assert refused(judge, call(f"{at_work.SERVICES}.GetIamPolicy", service)) == code
    for name, code in ((FUNCTION.name, "ABORTED"), (other, None)):
        update = UpdateFunctionRequest(function={"name": name})
        assert refused(judge, call(f"{at_work.FUNCTIONS}.UpdateFunction", update)) == code


def refused(judge: AtWork, one: Call) -> str | None:
    """With which code it is refused, if it is."""
    try:
        judge.before(one)
    except ServiceError as error:
        return error.code.name
    return None
