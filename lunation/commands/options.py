"""Options that several commands take."""

from typing import Annotated

import typer

TargetOption = Annotated[str | None, typer.Option("--target", help="A target of lunation.toml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10000, help="At most so many rows, newest first.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
