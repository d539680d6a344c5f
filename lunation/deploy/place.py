"""Whether there is a place to deploy to: the project, and in each of its services the region."""

from typing import Any

from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud.location import locations_pb2

from lunation.clients import Clients
from lunation.deploy.errors import api_is_off, credentials_cause, project_denied


class PlaceError(ValueError):
    """There is no such project or region, or none that one may use; the text says what to do."""


def check_project(clients: Clients) -> None:
    """Look at the project once, before anything else is asked or changed.

    A project whose Resource Manager is still off is taken for what it is, a new one.

    Raises:
        PlaceError: it is not there, is being deleted, or is somebody else's; or there are no credentials.
    """
    project = clients.project
    if not clients.target.serves("resourcemanager"):
        return
    try:
        found = clients.projects.get_project(name=f"projects/{project}")
    except GoogleAuthError as error:
        raise PlaceError(credentials_cause(error, clients)) from error
    except GoogleAPICallError as error:
        if api_is_off(error):
            return
        if not (project_denied(error) or isinstance(error, Forbidden | NotFound)):
            raise
        raise PlaceError(
            f"project {project} is not there, or {clients.principal} may not see it: {error.message}. Google does not "
            f"say which. Is the id in lunation.toml right (gcloud projects list)? A new one: gcloud projects create "
            f"{project}. Another organisation's: whoever administers it gives {clients.principal} the roles of "
            "docs/deploy.md, step 3"
        ) from error
    if found.state.name == "DELETE_REQUESTED":
        raise PlaceError(
            f"project {project} is being deleted. For 30 days it can be had back: gcloud projects undelete {project}"
        )


def check_region(service: str, client: Any, clients: Clients) -> None:
    """Hold the target's region against those that a service tells.

    Args:
        service: its name, for the error.
        client: its client, which has the method that all services share.

    Raises:
        GoogleAPICallError: the service does not tell.
        PlaceError: it is in other regions.
    """
    names: set[str] = set()
    request = locations_pb2.ListLocationsRequest(name=f"projects/{clients.project}")
    while True:
        answer = client.list_locations(request=request)
        names |= {one.location_id or one.name.rsplit("/", 1)[-1] for one in answer.locations}
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    if names and clients.target.region not in names:
        raise PlaceError(
            f"{service} is not in region {clients.target.region}. It is in {', '.join(sorted(names))}. Make one of "
            "them the `region` of the target in lunation.toml; buckets and a database that are there already never move"
        )
