"""``send``: publish the documents of a file."""

from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from lunation.commands.options import TargetOption
from lunation.commands.printing import err, fail, out, plain
from lunation.commands.session import session

if TYPE_CHECKING:
    from rich.progress import Progress

    from lunation.send import Sent

TOLD = 50
"""So many lines are told that are no documents; the others are counted."""


def send(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON documents, one a line, gzip or not; - is standard input.")
    ],
    labels: Annotated[bool, typer.Option("--labels", help="They are labels, not records.")] = False,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, help="So many a second.", show_default="as it goes")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Also what is no document of the use case: a dead letter comes of it.")
    ] = False,
    target: TargetOption = None,
) -> None:
    """Publish each line of a file as one message, to the topic of records or of labels.

    Each is read first, as every consumer reads it; what does not fit is told with its line and reason, and not sent.
    Exit code 0: all was sent; 2: some did not fit; 130: it was interrupted; 1: an error.
    """
    from lunation import send as publishing
    from schemas import use_case

    path = None if file == "-" else Path(file)
    name = "standard input" if path is None else file
    topic = "labels" if labels else "records"
    sent = publishing.Sent()

    def refuse(number: int, reason: str) -> None:
        if sent.refused <= TOLD:
            err.print(f"line {number}: {plain(reason)}")

    try:
        with session(target) as (settings, clients), publishing.opened(path) as stream, _progress(path) as progress:
            task = progress.add_task("sending", total=_size(path), about="")

            def show() -> None:
                progress.update(task, completed=_place(path, stream), about=_about(sent))

            publishing.send(
                clients,
                use_case(settings.use_case),
                topic,
                publishing.lines(stream, name),
                sent,
                rate=rate,
                as_is=as_is,
                refuse=refuse,
                show=show,
            )
    except KeyboardInterrupt:
        err.print(f"Interrupted. {_summary(sent, topic, as_is)}")
        raise typer.Exit(130) from None
    except typer.Exit:
        if sent.published:
            err.print(_summary(sent, topic, as_is))
        raise
    if not sent.lines:
        fail(f"{name} has no line with a document, so nothing was sent")
    out.print(_summary(sent, topic, as_is))
    if not sent.published:
        err.print(f"No line is a document. One that goes over several lines: jq -c . {plain(file)} | lunation send -")
    raise typer.Exit(2 if sent.published < sent.lines else 0)


def _progress(path: Path | None) -> "Progress":
    """How far it is, on the error stream, if that is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        *([] if path is None else [TextColumn("{task.percentage:>3.0f} %")]),
        TextColumn("{task.fields[about]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.is_file() else None


def _place(path: Path | None, stream: IO[bytes]) -> int | None:
    """How many bytes of the file are read, packed if it is; of a pipe nobody knows."""
    return stream.tell() if path is not None and stream.seekable() else None


def _about(sent: "Sent") -> str:
    return f"{sent.published:,} sent" + (f", {sent.refused:,} did not fit" if sent.refused else "")


def _summary(sent: "Sent", topic: str, as_is: bool) -> str:
    text = f"Read {sent.lines:,} lines: {sent.confirmed:,} sent to topic {topic}"
    if sent.confirmed < sent.published:
        text += f", {sent.published - sent.confirmed:,} more not confirmed by Pub/Sub"
    unsent = sent.lines - sent.published if as_is else sent.refused
    if sent.refused > unsent:
        text += f", {sent.refused - unsent:,} of them did not fit"
    if unsent:
        text += f", {unsent:,} did not fit and were not sent"
    return text + "."
