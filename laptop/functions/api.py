"""``google.cloud.functions.v2.FunctionService``: the RPCs."""

import re
import uuid
from typing import Any

from google.cloud.functions_v2 import types
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from laptop.errors import ServiceError, already_exists, invalid
from laptop.functions.declared import ID, complete, merge
from laptop.functions.deployments import Deployments
from laptop.functions.registry import Registry, Row
from laptop.functions.source import RUNTIME
from laptop.functions.uploads import Uploads
from laptop.operations import Operations
from laptop.policies import Policies
from laptop.ports import free_port

Function = types.Function.pb()
State = types.Function.State
NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)/functions/([^/]+)")
PARENT = re.compile(r"projects/([^/]+)/locations/([^/]+)")


class Functions:
    """RPC handlers.

    Args:
        registry: what is kept.
        deployments: what runs.
        operations: long-running operations.
        uploads: sources.
        policies: IAM policies of functions.
    """

    def __init__(
        self,
        registry: Registry,
        deployments: Deployments,
        operations: Operations,
        uploads: Uploads,
        policies: Policies,
    ) -> None:
        self._registry = registry
        self._deployments = deployments
        self._operations = operations
        self._uploads = uploads
        self._policies = policies

    async def resume(self) -> None:
        """Take up what was being deployed when the server was killed, under the same operation."""
        known = {row.operation: row for row in self._registry.rows() if row.pending is not None}
        for operation in self._operations.unfinished():
            row = known.get(operation.name)
            if row is None:
                cause = ServiceError("ABORTED", "the server was ended before this operation was; ask again")
                await self._operations.fail(operation, cause)
            else:
                await self._deploy(row, "resume")

    async def create_function(self, request: Any) -> operations_pb2.Operation:
        """Deploy a new function."""
        _match(PARENT, request.parent, "parent")
        if not ID.fullmatch(request.function_id):
            raise invalid(
                f"function_id {request.function_id!r}: up to 63 of a-z, 0-9 and -, beginning with a letter and not "
                "ending with -"
            )
        name = f"{request.parent}/functions/{request.function_id}"
        function = Function()
        function.CopyFrom(request.function)
        function.name = name
        complete(function)
        if self._registry.exists(name):
            raise already_exists(name)
        function.state = State.DEPLOYING
        function.create_time.GetCurrentTime()
        function.update_time.GetCurrentTime()
        row = Row(name, free_port(self._registry.ports()), 0, None, function, function, _operation_name(name))
        await self._registry.save(row)
        return await self._deploy(row, "create")

    async def update_function(self, request: Any) -> operations_pb2.Operation:
        """Deploy a new revision, or only keep new labels."""
        row = self._settled(request.function.name)
        paths = list(request.update_mask.paths)
        wanted = merge(row.serving if row.serving is not None else row.shown, request.function, paths)
        complete(wanted)
        row.operation = _operation_name(row.name)
        touched = {path.split(".", maxsplit=1)[0] for path in paths} or {
            field.name for field, _ in request.function.ListFields()
        }
        if row.serving is not None and not touched & {"build_config", "service_config"}:
            function = await self._deployments.relabel(row, wanted)
            return await self._operations.finished(row.operation, _metadata(row, "update"), function)
        row.pending = wanted
        shown = Function()
        shown.CopyFrom(row.shown)
        shown.state = State.DEPLOYING
        row.shown = shown
        await self._registry.save(row)
        return await self._deploy(row, "update")

    async def get_function(self, request: Any) -> Any:
        """One function."""
        return self._registry.read(request.name).shown

    async def list_functions(self, request: Any) -> Any:
        """Functions by name. Filters are refused, but for the one by environment that gcloud sends."""
        project, location = _match(PARENT, request.parent, "parent").groups()
        if request.filter and request.filter != 'environment="GEN_2"':
            raise ServiceError("UNIMPLEMENTED", f"ListFunctions: filter {request.filter!r} is not supported here")
        prefix = f"projects/{project}/locations/" + ("" if location == "-" else f"{location}/")
        rows = [row for row in self._registry.rows() if row.name.startswith(prefix) and row.name > request.page_token]
        size = request.page_size or 100
        return types.ListFunctionsResponse.pb()(
            functions=[row.shown for row in rows[:size]], next_page_token=rows[size - 1].name if rows[size:] else ""
        )

    async def delete_function(self, request: Any) -> operations_pb2.Operation:
        """Delete a function with all that belongs to it."""
        row = self._settled(request.name)

        async def work() -> empty_pb2.Empty:
            await self._deployments.delete(row.name)
            return empty_pb2.Empty()

        return await self._operations.run(_operation_name(row.name), _metadata(row, "delete"), work)

    async def generate_upload_url(self, request: Any) -> Any:
        """A URL that takes one zip."""
        project, location = _match(PARENT, request.parent, "parent").groups()
        url, source = await self._uploads.new(project, location)
        return types.GenerateUploadUrlResponse.pb()(upload_url=url, storage_source=source)

    async def list_runtimes(self, request: Any) -> Any:
        """The one that there is."""
        runtime = types.ListRuntimesResponse.pb().Runtime(
            name=RUNTIME, display_name="Python 3.11", stage=types.ListRuntimesResponse.RuntimeStage.GA,
            environment=types.Environment.GEN_2,
        )  # fmt: skip
        return types.ListRuntimesResponse.pb()(runtimes=[runtime])

    async def list_locations(self, request: locations_pb2.ListLocationsRequest) -> locations_pb2.ListLocationsResponse:
        """Where functions are, or could be."""
        project = request.name.split("/")[1]
        ids = {row.name.split("/")[3] for row in self._registry.rows()} | {"us-central1"}
        found = [
            locations_pb2.Location(name=f"projects/{project}/locations/{location}", location_id=location)
            for location in sorted(ids)
        ]
        return locations_pb2.ListLocationsResponse(locations=found)

    # A function's invokers are kept by the Cloud Run service of the same name, so the Services API is answered, too.

    async def get_iam_policy(self, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
        """The policy of a function, or of the service beneath it: they are one here."""
        request.resource = _function_of(request.resource)
        return await self._policies.get_iam_policy(request)

    async def set_iam_policy(self, request: iam_policy_pb2.SetIamPolicyRequest) -> policy_pb2.Policy:
        """Replace the policy; the door heeds it at once."""
        request.resource = _function_of(request.resource)
        policy = await self._policies.set_iam_policy(request)
        self._deployments.authorize(request.resource)
        return policy

    # --- inside

    async def _deploy(self, row: Row, verb: str) -> operations_pb2.Operation:
        return await self._operations.run(
            row.operation, _metadata(row, verb), lambda: self._deployments.deploy(row.name)
        )

    def _settled(self, name: str) -> Row:
        row = self._registry.read(name)
        if row.pending is not None:
            raise ServiceError(
                "ABORTED", f"{name} is being deployed by {row.operation}: wait until that operation has ended"
            )
        return row


def _match(pattern: re.Pattern[str], text: str, field: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise invalid(f"{field}: {text!r} is not of the form projects/*/locations/*")
    return found


def _function_of(resource: str) -> str:
    return resource.replace("/services/", "/functions/", 1)


def _operation_name(name: str) -> str:
    return f"{name.rsplit('/', 2)[0]}/operations/operation-{uuid.uuid4()}"


def _metadata(row: Row, verb: str) -> Any:
    metadata = types.OperationMetadata.pb()(target=row.name, verb=verb, api_version="v2")
    metadata.create_time.GetCurrentTime()
    return metadata
