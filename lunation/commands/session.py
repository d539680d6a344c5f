"""Settings and clients for a command; every expected failure becomes one line and exit code 1."""

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from lunation.commands.printing import fail
from lunation.settings import Settings, SettingsError, Target, load

if TYPE_CHECKING:
    from lunation.clients import Clients

HOW_TO_CONFIGURE = (
    "In lunation.toml, put the id of a project of yours into `project` of a target and delete its line "
    "`sample = true`; then sign in with `gcloud auth application-default login`, and run it again with --target NAME. "
    "docs/deploy.md has every step. On this machine: --target laptop"
)


def an_example(target: Target) -> str:
    """Why nothing is asked of, or sent to, a target whose project is only an example: its id may be somebody's."""
    return f"{target.project} is an example. {HOW_TO_CONFIGURE}"


@contextmanager
def session(target: str | None, examples: bool = False) -> Iterator[tuple[Settings, "Clients"]]:
    """The settings as they are for ``target`` (None: the default one), and its clients.

    Args:
        examples: whether a target that is only an example will do; its clients then see an empty project, rehearsed.

    Raises:
        typer.Exit: with code 1, after one line that says what is wrong.
    """
    import requests
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError

    from lunation.clients import Clients
    from lunation.deploy.plan import ApplyError

    try:
        settings = load()
        chosen = settings.target(target)
        if chosen.sample and not examples:
            raise SettingsError(f"{target or settings.default_target}: {an_example(chosen)}")
        with _stand_in(chosen) if chosen.sample else nullcontext(chosen) as served:
            clients = Clients(served)
            _check_reachable(clients)
            yield settings.of(chosen), clients
    except (SettingsError, ApplyError, ValueError, TimeoutError) as error:
        fail(str(error))
    except (GoogleAPICallError, RetryError, GoogleAuthError, requests.RequestException) as error:
        fail(f"{type(error).__name__}: {error}")


def _stand_in(example: Target) -> AbstractContextManager[Target]:
    # The one place where this package needs the rehearsal: an example has no project that could be asked.
    from rehearsal.offline import empty_project

    return empty_project(example)


def _check_reachable(clients: "Clients") -> None:
    """A server that is not there would only show after the client libraries' retries, a minute later."""
    for service, address in clients.target.addresses().items():
        host, _, port = address["grpc"].rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except OSError:
            raise SettingsError(
                f"{service} does not answer at {address['grpc']}: start the servers with `nox -s up`"
            ) from None
