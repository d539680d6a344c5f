"""What a command prints: tables for people, JSON for programs, one line for a failure.

What comes from data (ids, causes, reasons, a category's values) was typed by strangers. All of it goes through
:func:`plain`, and :func:`visible` stands behind whatever is printed: no control character reaches a terminal as itself.
"""

import json
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NoReturn

import typer
from pydantic import BaseModel
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from schemas.visible import visible

TOGETHER = 24
"""Cells up to so many columns stay on one line: a time, a figure with its interval."""
WORD = 36
"""Words up to so many columns stay whole in prose: a model version has 35."""
PROSE = 28
"""Columns that a sentence gets at least."""
GAP = 2

_NUMBER = re.compile(r"[-+]?[\d,.]*(e[-+]?\d+)?")


class _Console(Console):
    """Rich's, whose own strings may hold lines and tabs, and nothing else that moves a cursor."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Strings become text here, whether printed, in a table or as a status."""
        return super().render_str(re.sub(r"[^\n\t]+", lambda found: visible(found[0]), text), **options)


# A line is wrapped by the terminal, if at all: what a program reads through a pipe stays one line.
out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Print what went wrong on the error stream; one line, if the message is one.

    Raises:
        typer.Exit: with code 1.
    """
    complain(message)
    raise typer.Exit(1)


def complain(message: str) -> None:
    """The same without ending the command."""
    err.print("[red]error:[/] " + "\n".join(map(plain, message.splitlines())))


def one_line(message: str) -> str:
    """A message of several lines as one sentence."""
    return "; ".join(" ".join(line.split()) for line in message.splitlines() if line.strip()).replace(":;", ":")


def plain(text: Any) -> str:
    """``text`` as it is, on one line: what looks like markup in it is none, what would steer a terminal is shown."""
    return escape(visible(str(text)))


def print_prose(text: str, indent: str = "  ") -> None:
    """Print what may have several lines, each behind ``indent``, folded to the terminal."""
    width = max(20, out.width - len(indent))
    for line in text.splitlines() or [""]:
        for part in Text(visible(line.replace("\t", "  "))).wrap(out, width):
            out.print(Text(indent + part.plain.rstrip()))


def print_json(value: Any) -> None:
    """Print ``value`` on standard output. What is not ASCII is escaped."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def document(model: BaseModel) -> dict[str, Any]:
    """A record as JSON shows it."""
    return model.model_dump(mode="json")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    prose: Collection[str] = (),
    drop: Sequence[str] = (),
) -> None:
    """Print rows under a title, within the terminal's width (80 columns, if nobody says another).

    What has no space in it, such as an id, is never cut: where it cannot be kept whole in a column, columns are left
    out, and if that is not enough, each row is told line by line.

    Args:
        prose: the columns whose cells are sentences: they are folded, even within a word of over :data:`WORD`.
        drop: the columns that may be left out, the first one first; a line says which were.
    """
    out.print(f"[bold]{plain(title)}[/]" if rows else f"[bold]{plain(title)}[/]: none")
    if not rows:
        return
    console = _Console(highlight=False)
    cells = [[_cell(value) for value in row] for row in rows]
    for number in range(len(drop) + 1):
        kept = [place for place, column in enumerate(columns) if column not in drop[:number]]
        bounds = [_bounds(columns[place], [row[place] for row in cells], columns[place] in prose) for place in kept]
        room = console.width - GAP * (len(kept) - 1)
        if sum(least for least, _ in bounds) <= room:
            break
    else:
        _print_rows(console, [visible(column) for column in columns], cells)
        return
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for place, width in zip(kept, _widths(bounds, room, [columns[place] in prose for place in kept]), strict=True):
        numbers = all(_NUMBER.fullmatch(row[place]) for row in cells)
        table.add_column(
            Text(visible(columns[place])), width=width, overflow="fold", justify="right" if numbers else "left"
        )
    for row in cells:
        table.add_row(*(Text(row[place]) for place in kept))
    console.print(table)
    if number:
        out.print(f"[dim]Not shown in {console.width} columns: {plain(', '.join(drop[:number]))}; --json has all.[/]")


def _bounds(title: str, cells: Sequence[str], prose: bool) -> tuple[int, int]:
    """How wide a column has to be, and would be by itself. A title may be folded between its words."""
    longest_word = max(map(cell_len, title.split()), default=0)
    natural = max([*map(cell_len, cells), cell_len(title)], default=0)
    words = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
    if prose:
        least = max(min(words, WORD), min(natural, PROSE))
    else:
        short = max((cell_len(cell) for cell in cells if cell_len(cell) <= TOGETHER), default=0)
        least = max(words, short)
    return max(least, longest_word), max(natural, least)


def _widths(bounds: Sequence[tuple[int, int]], room: int, prose: Sequence[bool]) -> list[int]:
    """Each column's width: what it needs, and of the rest what it would take, sentences last."""
    widths = [least for least, _ in bounds]
    spare = room - sum(widths)
    for place in sorted(range(len(bounds)), key=lambda one: prose[one]):
        more = min(spare, bounds[place][1] - widths[place])
        widths[place] += more
        spare -= more
    return widths


def _print_rows(console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Each row as lines of name and value; a word that is wider than the terminal has a line of its own."""
    names = max(cell_len(column) for column in columns)
    room = max(20, console.width - names - GAP)
    for number, row in enumerate(cells):
        if number:
            out.print()
        for column, cell in zip(columns, row, strict=True):
            if max(map(cell_len, cell.split()), default=0) > room:
                out.print(Text(column, "bold"))
                for part in _folded(cell.split(), console.width):
                    out.print(Text(part))
                continue
            for place, line in enumerate(Text(cell).wrap(console, room) or [Text()]):
                name = column if place == 0 else ""
                out.print(Text.assemble((name, "bold"), " " * (names - cell_len(name) + GAP), line.plain.rstrip()))


def _folded(words: Sequence[str], width: int) -> Iterator[str]:
    """Lines of words. One that is wider by itself is a line: the terminal wraps it, and it is copied whole."""
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if line and cell_len(longer) > width:
            yield line
            longer = word
        line = longer
    yield line


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return visible(json.dumps(value) if isinstance(value, dict | list) else str(value))


def clock(value: datetime | None) -> str:
    """A time to the second, without its zone, which the column's title names."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``43 s``, ``2 min 05 s``, ``1 h 12 min``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
