"""What reaches a terminal: tables that fit it, ids that can be copied, and nothing that it would obey."""

import unicodedata
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lunation.commands import printing
from lunation.commands.printing import duration, err, fail, out, plain, print_prose, print_table
from schemas.visible import visible

HOSTILE = "a\x1b[31mb\x1b]0;title\x07\x9b2J\u202egnp.exe\u2066\u200f\u2028c\u0378\ud800\r\n[bold]d[/]"
"""ESC, BEL, C1's CSI, bidi controls, a line separator, an unassigned character, a lone surrogate, ends of lines, and
what rich would take for markup."""
SHOWN = r"a\x1b[31mb\x1b]0;title\x07\x9b2J\u202egnp.exe\u2066\u200f\u2028c\u0378\ud800\x0d\x0a[bold]d[/]"
CONTROLS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def steers(text: str) -> list[str]:
    """The characters in it that a terminal may obey, or hide, the ends of our own lines apart."""
    return [one for one in text if unicodedata.category(one) in CONTROLS and one not in "\n\u200c\u200d"]


@pytest.mark.parametrize(
    "show",
    [
        lambda: out.print(f"[bold]{plain(HOSTILE)}[/]: told"),
        lambda: out.print("said without a word of care: a\x1b[31m\u202e"),
        lambda: err.print(plain(HOSTILE)),
        lambda: fail(HOSTILE),
        lambda: print_table(HOSTILE, ["id", HOSTILE], [[HOSTILE, 1]]),
        lambda: print_table("narrow", ["id", "x"], [[HOSTILE * 3, HOSTILE]]),
        lambda: print_table("prose", ["id", "x"], [[1, HOSTILE * 9]], prose=["x"]),
        lambda: print_prose(HOSTILE.replace("\r\n", "")),
    ],
)
def test_nothing_in_data_steers_a_terminal(show: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, in a table however wide, in a title, in an error: control characters are spelled out."""
    with suppress(typer.Exit):
        show()
    captured = capsys.readouterr()
    assert r"\x1b[31m" in captured.out + captured.err
    assert steers(captured.out + captured.err) == []


def test_a_status_steers_no_terminal() -> None:
    """What is shown while one waits has data in it, too."""
    screen = StringIO()
    console = printing._Console(file=screen, force_terminal=True, color_system=None, width=200)
    with console.status(f"reading {plain(HOSTILE)} …"):
        pass
    assert r"\x1b[31mb\x1b]0;title\x07" in screen.getvalue()
    assert "\x1b[31m" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()


def test_what_is_shown_is_what_was_there() -> None:
    """Each such character by its number; letters, accents, ideographs, emoji and spaces stay; markup is text."""
    assert visible(HOSTILE) == SHOWN
    for text in ("Zürich", "名前　東京", "नमस्ते", "👩‍👩‍👧", "a b", "می‌خواهم"):
        assert visible(text) == text
    screen = StringIO()
    Console(file=screen, width=200).print(plain("[bold]a[/] [link=x]b"))
    assert screen.getvalue() == "[bold]a[/] [link=x]b\n"


WORDS = st.text(
    st.characters(categories=["L", "N", "P", "Cc", "Cf"], exclude_characters="\n\t"), min_size=1, max_size=60
)
CELLS = st.one_of(st.integers(), st.none(), st.lists(WORDS, min_size=1, max_size=4).map(" ".join))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A table, some of its columns prose, some to be left out."""
    columns = [f"column {number}" if number % 2 else f"c{number}" for number in range(draw(st.integers(1, 8)))]
    rows = draw(st.lists(st.lists(CELLS, min_size=len(columns), max_size=len(columns)), min_size=1, max_size=3))
    prose = draw(st.sets(st.sampled_from(columns)))
    drop = draw(st.lists(st.sampled_from(columns), unique=True, max_size=len(columns) - 1))
    return {"columns": columns, "rows": rows, "prose": prose, "drop": drop}


@settings(max_examples=100, deadline=None)
@given(table=tables(), width=st.integers(40, 120))
def test_a_table_fits_and_cuts_no_word(table: dict[str, Any], width: int) -> None:
    """No line is wider than the terminal, save one word that is wider by itself, on a line of its own; each word of a
    column that is shown, and is no prose, stands in one piece; what is left out is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setattr("sys.stdout", screen := StringIO())
        print_table("Rows", **table)
    printed = screen.getvalue()
    assert steers(printed) == []
    lines = printed.splitlines()
    left_out: list[str] = []
    if lines[-1].startswith("Not shown in"):
        names = lines.pop().partition(": ")[2].partition(";")[0]
        left_out = names.split(", ")
        assert left_out == table["drop"][: len(left_out)]
    for line in lines:
        assert cell_len(line.rstrip()) <= width or " " not in line.strip(), line
    for place, column in enumerate(table["columns"]):
        if column not in left_out and column not in table["prose"]:
            for row in table["rows"]:
                for word in visible("" if row[place] is None else str(row[place])).split():
                    assert word in printed


def test_columns_are_left_out_in_their_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one first, no more of them than needed, and a line says which."""
    columns = ["id", "a", "b", "when"]
    rows = [["i" * 30, "a" * 20, "b" * 20, "2026-11-30 07:19:54"]]
    for width, missing in ((100, []), (80, ["b"]), (55, ["b", "a"])):
        monkeypatch.setenv("COLUMNS", str(width))
        print_table("Rows", columns, rows, drop=["b", "a"])
        printed = capsys.readouterr().out
        assert [one for one in "ab" if one * 20 not in printed] == sorted(missing)
        assert (f"Not shown in {width} columns: {', '.join(missing)};" in printed) == bool(missing)
    monkeypatch.setenv("COLUMNS", "40")
    print_table("Rows", columns, rows, drop=["b", "a"])
    printed = capsys.readouterr().out
    assert all(f"\n{name}" in printed for name in columns), "then each row is told line by line, with all of it"
    assert all(cell in printed for cell in rows[0])


def test_a_duration_is_told_as_a_person_would() -> None:
    """Tenths only where they matter."""
    told = {None: "", 0.04: "0.0 s", 9.94: "9.9 s", 43.4: "43 s", 125: "2 min 05 s", 4320: "1 h 12 min"}
    assert {seconds: duration(seconds) for seconds in told} == told
