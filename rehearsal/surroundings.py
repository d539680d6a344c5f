"""What is around a deployment in a project: who pays, what the organisation forbids, quotas, the network.

A deployment changes none of it; ``lunation doctor`` looks at it. Every field is settable, so that a project with each
defect can be had.
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Surroundings:
    """A project in which nothing is missing.

    Args:
        billing: the account that pays; empty: nobody does.
        policies: effective rules of an organisation policy, by the constraint's name; others have none.
        quotas: ``(limit, usage)`` of the region's virtual machines, by metric.
        run_limits: what Cloud Run may take of the region, by the limit's name.
        subnetworks: the region's, by name.
        routers: the region's, with their NATs.
        bad_filters: parts of log filters that are refused.
    """

    billing: str = "billingAccounts/000000-000000-000000"
    policies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    quotas: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {
            "CPUS": (72, 0),
            "N2_CPUS": (24, 0),
            "SSD_TOTAL_GB": (500, 0),
            "DISKS_TOTAL_GB": (4096, 0),
            "INSTANCES": (24, 0),
        }
    )
    run_limits: dict[str, int] = field(
        default_factory=lambda: {"CpuAllocPerProjectRegion": 20_000, "MemAllocPerProjectRegion": 40 * 2**30}
    )
    """As a new project had them in 2026: https://github.com/googlecodelabs/feedback/issues/1856"""
    subnetworks: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"default": {"name": "default", "privateIpGoogleAccess": True}}
    )
    routers: list[dict[str, Any]] = field(
        default_factory=lambda: [{"network": "https://www.googleapis.com/compute/v1/projects/p/global/networks/default",
                                  "nats": [{"name": "lunation"}]}]
    )  # fmt: skip
    bad_filters: tuple[str, ...] = ()

    def routes(self, service: str) -> list[web.RouteDef]:
        """What a service answers over REST beside what its package's client asks; none for most."""
        return {
            "cloudbilling": [web.get("/v1/projects/{project}/billingInfo", self._billing)],
            "orgpolicy": [web.get("/v2/projects/{project}/policies/{constraint}:getEffectivePolicy", self._policy)],
            "compute": [
                web.get("/compute/v1/projects/{project}/regions/{region}", self._region),
                web.get("/compute/v1/projects/{project}/regions/{region}/subnetworks/{name}", self._subnetwork),
                web.get("/compute/v1/projects/{project}/regions/{region}/routers", self._routers),
            ],
            "serviceusage": [
                web.get("/v1beta1/projects/{project}/services/run.googleapis.com/consumerQuotaMetrics", self._run)
            ],
            "logging": [web.post("/v2/entries:list", self._entries)],
        }.get(service, [])

    async def _billing(self, request: web.Request) -> web.Response:
        project = request.match_info["project"]
        info = {"name": f"projects/{project}/billingInfo", "projectId": project, "billingEnabled": bool(self.billing)}
        return web.json_response({**info, **({"billingAccountName": self.billing} if self.billing else {})})

    async def _policy(self, request: web.Request) -> web.Response:
        constraint = request.match_info["constraint"]
        rules = self.policies.get(constraint, [])
        name = f"projects/{request.match_info['project']}/policies/{constraint}"
        return web.json_response({"name": name, "spec": {"rules": rules}})

    async def _region(self, request: web.Request) -> web.Response:
        quotas = [{"metric": name, "limit": limit, "usage": usage} for name, (limit, usage) in self.quotas.items()]
        return web.json_response({"name": request.match_info["region"], "quotas": quotas})

    async def _subnetwork(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.subnetworks:
            return _error(404, f"The resource '{request.path}' was not found")
        return web.json_response(self.subnetworks[name])

    async def _routers(self, _: web.Request) -> web.Response:
        return web.json_response({"items": self.routers} if self.routers else {})

    async def _run(self, request: web.Request) -> web.Response:
        parent = f"projects/{request.match_info['project']}/services/run.googleapis.com"
        metrics = [
            {
                "name": f"{parent}/consumerQuotaMetrics/run.googleapis.com%2F{name}",
                "metric": f"run.googleapis.com/{name}",
                "consumerQuotaLimits": [
                    {
                        "name": f"{parent}/consumerQuotaMetrics/run.googleapis.com%2F{name}/limits/%2Fproject%2Fregion",
                        "metric": f"run.googleapis.com/{name}",
                        "unit": "1/{project}/{region}",
                        "quotaBuckets": [{"effectiveLimit": str(limit), "defaultLimit": str(limit)}],
                    }
                ],
            }
            for name, limit in self.run_limits.items()
        ]
        return web.json_response({"metrics": metrics})

    async def _entries(self, request: web.Request) -> web.Response:
        log_filter = (await request.json()).get("filter", "")
        if any(part in log_filter for part in self.bad_filters):
            return _error(400, f"Unparseable filter: syntax error: {log_filter}")
        return web.json_response({})


def _error(code: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=code)
