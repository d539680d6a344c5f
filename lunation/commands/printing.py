"""What a command prints: tables for people, JSON for programs, one line for a failure."""

import json
import re
import sys
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NoReturn

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A line is wrapped by the terminal, if at all: what a program reads through a pipe stays one line.
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_NUMBER = re.compile(r"[-+]?[\d,.]*(e[-+]?\d+)?")
TABLE_WIDTH = 150
"""Columns that a table may take, however narrow the terminal is: a row that the terminal wraps can still be read and
copied, an id that is folded into five lines cannot."""


def fail(message: str) -> NoReturn:
    """Print one line on the error stream.

    Raises:
        typer.Exit: with code 1.
    """
    err.print(f"[red]error:[/] {plain(message)}")
    raise typer.Exit(1)


def plain(text: Any) -> str:
    """``text`` as it is: what looks like markup in it is none."""
    return escape(str(text))


def print_json(value: Any) -> None:
    """Print ``value`` on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def document(model: BaseModel) -> dict[str, Any]:
    """A record as JSON shows it."""
    return model.model_dump(mode="json")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, prose: Collection[str] = ()
) -> None:
    """Print rows under a title.

    Args:
        prose: the columns whose cells are sentences, which are wrapped; all others stay on one line.
    """
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [[_cell(value) for value in row] for row in rows]
    for place, column in enumerate(columns):
        if column in prose:
            table.add_column(column, overflow="fold", min_width=30)
        else:
            numbers = all(_NUMBER.fullmatch(row[place]) for row in cells)
            widest = max((len(row[place]) for row in cells), default=0)
            table.add_column(column, no_wrap=True, min_width=widest, justify="right" if numbers else "left")
    for row in cells:
        table.add_row(*row)
    out.print(f"[bold]{plain(title)}[/]" if rows else f"[bold]{plain(title)}[/]: none")
    if rows:
        Console(highlight=False, width=max(TABLE_WIDTH, out.width)).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return plain(json.dumps(value) if isinstance(value, dict | list) else value)


def clock(value: datetime | None) -> str:
    """A time to the second, without its zone, which the column's title names."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"
