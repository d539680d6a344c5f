"""Ray Serve: one replica of one CPU, which takes the raw request."""

import os
import sys
import time

import orjson
import ray
from flights_model import FlightsModel, Record
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Flights:
    """One record a request."""

    def __init__(self) -> None:
        self.model = FlightsModel()

    async def __call__(self, request: Request) -> Response:
        record = Record.model_validate_json(await request.body())
        return Response(orjson.dumps(self.model.classify([record])[0]), media_type="application/json")


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "access_log": False})
    application = Flights.bind()  # type: ignore[attr-defined]  # the decorator adds it
    serve.run(application, route_prefix="/v1/classify", blocking=False)
    while True:
        time.sleep(60)
