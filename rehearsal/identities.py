"""Google's service agents, which are not there until somebody asks for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from laptop.errors import ServiceError
from rehearsal.project import Project
from rehearsal.recorder import JUDGED_AS, Call, Notes

if TYPE_CHECKING:
    from rehearsal.judge import Judge

METHOD = "serviceusage.services.generateServiceIdentity"


def identity_routes(caller: str, project: Project, notes: Notes, judges: Sequence["Judge"] = ()) -> list[web.RouteDef]:
    """What makes an agent, which is in no client package. The operation is done when it is looked at."""

    async def generate(request: web.Request) -> web.Response:
        call = Call(caller, METHOD, request.path, body=await request.read(), judged_as=request[JUDGED_AS])
        notes.add(call)
        try:
            for judge in judges:
                judge.before(call)
        except ServiceError as error:
            return web.json_response(error.body(), status=error.http_status)
        return web.json_response({"name": f"operations/acat.{request.match_info['api']}"})

    async def look(request: web.Request) -> web.Response:
        return web.json_response({"name": f"operations/{request.match_info['id']}", "done": True, "response": {}})

    return [
        web.post("/v1beta1/projects/{project}/services/{api}:generateServiceIdentity", generate),
        web.get("/v1beta1/operations/{id:acat.*}", look),
    ]
