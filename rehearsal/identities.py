"""Google's service agents, which are not there until somebody asks for them.

``services.generateServiceIdentity`` has no gRPC form and is in no client package: it is asked for over HTTP, as
https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services/generateServiceIdentity says.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web
from google.longrunning import operations_pb2

from laptop.errors import ServiceError, invalid, not_found
from rehearsal.agents import asked_for
from rehearsal.project import NUMBER, Project
from rehearsal.recorder import JUDGED_AS, Call, Notes

if TYPE_CHECKING:
    from rehearsal.judge import Judge

METHOD = "serviceusage.services.generateServiceIdentity"


def identity_routes(caller: str, project: Project, notes: Notes, judges: Sequence["Judge"] = ()) -> list[web.RouteDef]:
    """What makes an agent. The answer is an operation, which is done when it is looked at."""
    numbers = itertools.count(1)

    async def generate(request: web.Request) -> web.Response:
        call = Call(caller, METHOD, request.path, body=await request.read(), judged_as=request[JUDGED_AS])
        notes.add(call)
        try:
            for judge in judges:
                judge.before(call)
            if request.match_info["project"] not in (project.project, NUMBER):
                raise ServiceError(
                    "PERMISSION_DENIED", f"{request.path}: Permission denied to generate service identity"
                )
            agent = asked_for(call)
            if agent is None:
                raise invalid(f"{request.match_info['api']} has no service identity")
        except ServiceError as error:
            return web.json_response(error.body(), status=error.http_status)
        operation = operations_pb2.Operation(name=f"operations/acat.p2-{NUMBER}-{next(numbers)}")
        made[operation.name] = agent.email
        project.agents.add(agent.email)
        for judge in reversed(judges):
            judge.after(call, operation)
        return web.json_response({"name": operation.name})

    async def look(request: web.Request) -> web.Response:
        name = f"operations/{request.match_info['id']}"
        if name not in made:
            return web.json_response(not_found(name).body(), status=404)
        identity = {
            "@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity",
            "email": made[name],
            "uniqueId": f"1{int.from_bytes(made[name].encode()[:6]):020d}",
        }
        return web.json_response({"name": name, "done": True, "response": identity})

    made: dict[str, str] = {}
    return [
        web.post("/v1beta1/projects/{project}/services/{api}:generateServiceIdentity", generate),
        *(web.get(f"/{version}/operations/{{id:acat.*}}", look) for version in ("v1", "v1beta1")),
    ]
