"""The floor: the least that a function of this framework can do with a request in the mode that ours run in."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

ANSWER = (
    b'{"record_id":"2013-01-01.UA.1545.EWR.0515","label":"on_time","probability":0.2391304347826087,"model_version":'
    b'"2013-03-01/20130301-000000-benchmark","generation":1,"event_time":"2013-01-01T10:15:00+00:00","classified_at":'
    b'"2013-01-01T10:15:00.123456+00:00","stale":false}'
)


@functions_framework.aio.http
async def floor(request: Request) -> Response:
    """Reads the body and answers a constant."""
    await request.body()
    return Response(ANSWER, media_type="application/json")
