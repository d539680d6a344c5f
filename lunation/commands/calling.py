"""``urls``: where the functions that callers ask are."""

from typing import TYPE_CHECKING, Annotated

import typer

from lunation.commands.options import JsonOption, TargetOption
from lunation.commands.printing import fail, out, print_json, print_table
from lunation.commands.session import session
from schemas.visible import visible

if TYPE_CHECKING:
    from lunation.clients import Clients

FOR = {"submit": "send records in, read answers", "classify-http": "ask the model; nothing is kept"}


def urls(
    function: Annotated[str | None, typer.Argument(help="Only this one's URL, to be put into a variable.")] = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the URLs of the functions that take requests of callers."""
    if function is not None and function not in FOR:
        fail(f"no function {function!r} takes requests of callers; there are {' and '.join(FOR)}")
    with session(target) as (settings, clients):
        found = {name: _url(clients, name) for name in (FOR if function is None else [function])}
        on_the_laptop = bool(settings.target(target).addresses())
    if as_json:
        print_json(found)
    elif function is not None:
        typer.echo(visible(found[function]))
    else:
        print_table("Over HTTP", ["function", "URL", "for"], [[name, url, FOR[name]] for name, url in found.items()])
        token = "python -m laptop token" if on_the_laptop else "gcloud auth print-identity-token"
        out.print(f"A request needs a token of a caller: {token}. docs/api.md shows how.")


def _url(clients: "Clients", name: str) -> str:
    from lunation.deploy.resource import if_found

    found = if_found(lambda: clients.functions.get_function(name=f"{clients.location}/functions/{name}"))
    if found is None or not found.service_config.uri:
        fail(f"{name} is not deployed to {clients.project}: lunation deploy, with the same --target")
    url: str = found.service_config.uri
    return url
