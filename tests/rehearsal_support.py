"""Help for tests of the rehearsal's judges: the deployer's clients on a stage, and a service that only keeps things."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from laptop.errors import not_found
from laptop.surface import Rpc
from lunation.clients import Clients
from lunation.settings import load
from rehearsal.project import done
from rehearsal.recorder import Answer
from rehearsal.stage import Stage

PROJECT = "example-production"
LOCATION = f"projects/{PROJECT}/locations/us-central1"


def clients_of(
    stage: Stage, folder: Path, services: Iterable[str], instead: Mapping[str, Answer] | None = None
) -> Clients:
    """The deployer's, for some services."""
    path = folder / "endpoints.json"
    path.write_text(json.dumps(stage.admit("deployer", services, instead)))
    return Clients(load().target("production").model_copy(update={"endpoints": path, "sample": False}))


class Kept:
    """Answers for one service: what was made is there, and read back as it was sent."""

    def __init__(self) -> None:
        self.things: dict[str, Any] = {}
        self.operations: dict[str, operations_pb2.Operation] = {}

    async def answer(self, rpc: Rpc, request: Any) -> Message:
        """Create, get, list, update, delete."""
        if rpc.name == "GetOperation":
            return self.operations[request.name]
        if rpc.name.startswith("List"):
            answer = rpc.response()
            field = next(one for one in answer.DESCRIPTOR.fields if one.is_repeated and one.message_type)
            getattr(answer, field.name).extend(self.things.values())
            return answer
        if rpc.name.startswith("Get"):
            if request.name not in self.things:
                raise not_found(request.name)
            return self.things[request.name]
        if rpc.name.startswith("Delete"):
            self.things.pop(request.name, None)
            return empty_pb2.Empty()
        thing = self._sent(request)
        self.things[thing.name] = thing
        if rpc.response.DESCRIPTOR.name != "Operation":
            return thing
        operation = done(thing)
        operation.name = f"{'/'.join(thing.name.split('/')[:4])}/operations/{len(self.operations)}"
        self.operations[operation.name] = operation
        return operations_pb2.Operation(name=operation.name)

    def _sent(self, request: Any) -> Any:
        """The thing that a request is about, or the request itself, if that is one (Pub/Sub's are)."""
        parts = [value for field, value in request.ListFields()
                 if field.message_type and not field.is_repeated and field.name != "update_mask"]  # fmt: skip
        thing = parts[0] if request.DESCRIPTOR.name.endswith("Request") else request
        sent = type(thing).FromString(thing.SerializeToString())
        if not sent.name:
            kind = next(field.name for field in request.DESCRIPTOR.fields if field.name.endswith("_id"))
            sent.name = f"{request.parent}/{kind.removesuffix('_id')}s/{getattr(request, kind)}"
        return sent
