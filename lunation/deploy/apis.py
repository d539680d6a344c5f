"""The APIs that must be on."""

from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound

from lunation.clients import Clients
from lunation.deploy.errors import api_is_off
from lunation.deploy.place import check_region
from lunation.deploy.resource import Resource, State


class Api(Resource):
    """An API of the project, switched on, and in the target's region.

    Args:
        name: such as ``pubsub.googleapis.com``.
        located: gives the client that tells where the service is; None for one that tells nobody.
    """

    kind = "api"
    about = "an API that something below calls"
    service = "serviceusage"
    api = "serviceusage.googleapis.com"
    managed_with = "roles/serviceusage.serviceUsageAdmin"
    stays = "something else in the project may need it"

    def __init__(self, name: str, located: Callable[[Clients], Any] | None = None) -> None:
        super().__init__(name)
        self._located = located

    def _path(self, clients: Clients) -> str:
        return f"projects/{clients.project}/services/{self.name}"

    def desired(self, clients: Clients) -> State:
        """On."""
        return {"state": "ENABLED"}

    def read(self, clients: Clients) -> State | None:
        """On, or not there.

        Raises:
            PlaceError: the service is not in the target's region.
        """
        try:
            found = clients.service_usage.get_service(request={"name": self._path(clients)})
        except NotFound:
            raise ValueError(
                f"{self.address}: project {clients.project} has no such API, or there is no such project"
            ) from None
        if found.state.name != "ENABLED":
            return None
        self._check_region(clients, on_already=True)
        return {"state": "ENABLED"}

    def create(self, clients: Clients) -> None:
        """Switch it on and wait."""
        clients.service_usage.enable_service(request={"name": self._path(clients)}).result(timeout=600)
        self._check_region(clients, on_already=False)

    def update(self, clients: Clients, changed: list[str]) -> None:
        """Switch it on again."""
        self.create(clients)

    def delete(self, clients: Clients) -> None:
        """Switch it off."""
        clients.service_usage.disable_service(request={"name": self._path(clients)}).result(timeout=600)

    def _check_region(self, clients: Clients, *, on_already: bool) -> None:
        """What cannot be known here is left to what is made there: it is refused in the service's own words."""
        if self._located is None:
            return
        try:
            check_region(self.name, self._located(clients), clients)
        except GoogleAPICallError as error:
            if api_is_off(error) and not on_already:
                raise
