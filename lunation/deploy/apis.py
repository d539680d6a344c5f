"""The APIs that must be on."""

from google.api_core.exceptions import NotFound

from lunation.clients import Clients
from lunation.deploy.resource import Resource, State


class Api(Resource):
    """An API of the project, switched on."""

    kind = "api"
    about = "an API that something below calls"
    service = "serviceusage"
    api = "serviceusage.googleapis.com"
    managed_with = "roles/serviceusage.serviceUsageAdmin"
    stays = "something else in the project may need it"

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/services/{self.name}"

    def desired(self, clients: Clients) -> State:
        """On."""
        return {"state": "ENABLED"}

    def read(self, clients: Clients) -> State | None:
        """On, or not there."""
        try:
            found = clients.service_usage.get_service(request={"name": self._path(clients)})
        except NotFound:
            raise ValueError(
                f"{self.address}: project {clients.project} has no such API, or there is no such project"
            ) from None
        return {"state": "ENABLED"} if found.state.name == "ENABLED" else None

    def create(self, clients: Clients) -> None:
        """Switch it on and wait."""
        clients.service_usage.enable_service(request={"name": self._path(clients)}).result(timeout=600)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Switch it on again."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Switch it off."""
        clients.service_usage.disable_service(request={"name": self._path(clients)}).result(timeout=600)
