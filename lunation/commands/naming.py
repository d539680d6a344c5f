"""How a person names a run or its model on the command line: by any part that no other has, or ``latest``."""

from typing import TYPE_CHECKING

from lunation.commands.printing import err, plain

if TYPE_CHECKING:
    from lunation.clients import Clients
    from lunation.trained import Named

A_RUN = "The beginning or end of a run id, an execution's id or a model version, or `latest`."


def model_version(clients: "Clients", use_case: str, text: str) -> str:
    """The model version that ``text`` means; of ``latest`` it says which that is.

    Raises:
        lunation.trained.NoSuchResultError: there is none, or there are several.
    """
    from lunation import trained
    from lunation.commands.findings import tell_broken
    from lunation.query import Broken

    broken: list[Broken] = []
    try:
        if text == trained.LATEST:
            tell_latest(text, trained.find(clients, use_case, text, broken=lambda _: None))
        return trained.model_version(clients, use_case, text, broken.append)
    finally:
        tell_broken(broken)


def tell_latest(text: str, named: "Named") -> None:
    """Say on the error stream which run ``latest`` is, if it was asked for."""
    from lunation.trained import LATEST

    if text == LATEST:
        err.print(f"latest is {plain(named)}")
