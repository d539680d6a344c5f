"""``python -m benchmarks NAME``."""

import typer

from benchmarks import archive, switch, training
from benchmarks.serving import command as serving
from benchmarks.streaming import bench as streaming

app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, help="Run a benchmark.")
app.command("archive")(archive.main)
app.command("serving")(serving.main)
app.command("training")(training.main)
app.command("streaming")(streaming.main)
app.command("switch")(switch.main)


@app.callback()
def benchmarks() -> None:
    """Run a benchmark: interleaved rounds, medians, ratios."""


app(prog_name="bench")
