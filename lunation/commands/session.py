"""Settings and clients for a command; every expected failure becomes one line and exit code 1."""

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import typer
from typer.exceptions import TyperException

from lunation.commands.printing import fail, one_line
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
        examples: whether a target that is only an example will do; its clients then see an empty project.

    Raises:
        typer.Exit: with code 1, after one line that says what is wrong.
    """
    clients = None
    try:
        settings = load()
        chosen = settings.target(target)
        if chosen.sample and not examples:
            raise SettingsError(f"{target or settings.default_target}: {an_example(chosen)}")
        from lunation.clients import Clients

        with _stand_in(chosen) if chosen.sample else nullcontext(chosen) as served:
            clients = Clients(served)
            _check_reachable(clients)
            yield settings.of(chosen), clients
    except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
        raise
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        fail(explain(error, clients))


def explain(error: Exception, clients: "Clients | None" = None) -> str:
    """A failure in one line: the thing, the cause, the fix."""
    if isinstance(error, SettingsError):
        return one_line(str(error))
    # Here, because they take a second to import, which a mistake in a name need not wait for.
    import requests
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from pydantic import ValidationError

    from lunation.deploy import errors
    from lunation.deploy.plan import ApplyError
    from schemas import dead_letter

    text = str(getattr(error, "message", "") or error)
    if isinstance(error, ValidationError):
        return f"{error.title} cannot be read: {dead_letter.explain(error)}"
    if isinstance(error, ApplyError | ValueError | TimeoutError):
        return one_line(text)
    if clients is not None and isinstance(error, GoogleAuthError | exceptions.Unauthenticated):
        return one_line(errors.credentials_cause(error, clients))
    lacked = errors.permission_lacked(error)
    if clients is not None and lacked:
        role = errors.PERMISSIONS.get(lacked, "a role that has it")
        return one_line(f"permission {lacked} is missing in project {clients.project}: {text}. {role} gives it")
    if isinstance(error, exceptions.NotFound):
        return one_line(f"{text}. Is it deployed? `lunation plan` shows what is missing")
    if isinstance(error, requests.RequestException | exceptions.RetryError | exceptions.ServerError):
        laptop = clients is not None and bool(clients.target.addresses())
        fix = "are the servers still up (`nox -s up`)? Their logs tell why not" if laptop else "try again in a while"
        return one_line(f"{type(error).__name__}: {text}: {fix}")
    if isinstance(error, exceptions.GoogleAPICallError | GoogleAuthError):
        return one_line(f"{type(error).__name__}: {text}")
    if isinstance(error, OSError):
        thing = f"{error.filename}: " if error.filename else ""
        return one_line(f"{thing}{error.strerror or text}{_FIXES.get(error.errno or 0, '')}")
    return one_line(
        f"{type(error).__name__}: {text}. This is a mistake of the program; to see where, run it again as "
        "python -X dev -m lunation, and report what that prints"
    )


_FIXES = {
    errno.ENOENT: ". Is its path right?",
    errno.EACCES: ". Take a folder that you may write to, or change whose it is",
    errno.EPERM: ". Take a folder that you may write to, or change whose it is",
    errno.EROFS: ". Take a folder that can be written to",
    errno.ENOSPC: ". Make room, and run it again",
    errno.EDQUOT: ". Make room, and run it again",
    errno.EADDRINUSE: ". End the program that has the port, or take another one",
}


def _stand_in(example: Target) -> AbstractContextManager[Target]:
    from lunation.deploy.empty_project import empty_project  # an example has no project that could be asked

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
