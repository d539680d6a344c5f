"""A request that Google would refuse is told from one that it would take, by the client packages' own word."""

from typing import Any

import pytest
from google.cloud.dataproc_v1 import WorkflowTemplateServiceClient
from google.cloud.functions_v2 import FunctionServiceClient
from google.cloud.functions_v2 import types as functions
from google.cloud.iam_admin_v1 import IAMClient
from google.cloud.iam_admin_v1 import types as iam

from laptop.surface import Rpc, rpcs_of
from rehearsal.validation import faults


def rpc(client: type[Any], name: str) -> Rpc:
    """A method of a client."""
    return next(one for one in rpcs_of(client) if one.name == name)


def create_function(**fields: Any) -> Any:
    """A request that is in order, but for ``fields``."""
    function = functions.Function(build_config={"runtime": "python311"}, **fields)
    request = functions.CreateFunctionRequest(parent="projects/p/locations/l", function=function, function_id="f")
    return functions.CreateFunctionRequest.pb(request)


def test_a_request_in_order_has_no_fault() -> None:
    """Numbers and enums at their defaults included."""
    assert faults(rpc(FunctionServiceClient, "CreateFunction"), create_function(environment="GEN_2")) == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (functions.CreateFunctionRequest.pb()(), "parent is required"),
        (functions.CreateFunctionRequest.pb()(parent="projects/p"), "not of the form projects/*/locations/*"),
        (functions.CreateFunctionRequest.pb()(parent="projects/p/locations/l"), "function is required"),
        (create_function(environment=9), "function.environment is 9, which is no value of"),
        (create_function(state=1), "function.state is set, and only the service may set it"),
        (
            create_function(service_config={"secret_volumes": [{"mount_path": "/x", "versions": [{"path": "p"}]}]}),
            "",
        ),
    ],
)
def test_what_google_would_refuse_is_named_with_its_place(request_: Any, words: str) -> None:
    """A field that is missing, a name of another form, a value that no enum has, a field that is not ours to set."""
    found = faults(rpc(FunctionServiceClient, "CreateFunction"), request_)
    assert words in "; ".join(found)
    assert bool(found) == bool(words)


def test_a_field_that_no_message_has_is_found_in_its_bytes() -> None:
    """A newer or mistaken client's field is not dropped in silence."""
    request = create_function()
    request.function.MergeFromString(b"\xfa\x3e\x01x")  # field 1007
    assert "field number 1007 is unknown" in "; ".join(faults(rpc(FunctionServiceClient, "CreateFunction"), request))


def test_required_fields_of_parts_are_looked_for_when_something_is_made_not_when_it_changes() -> None:
    """A template without jobs cannot be made; an update may send what was read."""
    create = rpc(WorkflowTemplateServiceClient, "CreateWorkflowTemplate")
    request = create.request(parent="projects/p/regions/r")
    request.template.id = "t"
    assert "template.jobs is required" in "; ".join(faults(create, request))
    update = rpc(FunctionServiceClient, "UpdateFunction")
    changed = functions.UpdateFunctionRequest.pb(
        functions.UpdateFunctionRequest(function={"name": "projects/p/locations/l/functions/f", "state": "ACTIVE"})
    )
    assert faults(update, changed) == []


def test_a_client_without_rest_paths_is_judged_by_its_messages() -> None:
    """IAM's has none."""
    create = rpc(IAMClient, "CreateServiceAccount")
    assert "account_id is required" in "; ".join(faults(create, iam.CreateServiceAccountRequest(name="projects/p")._pb))
