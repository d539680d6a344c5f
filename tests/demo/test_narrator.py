"""What is told while a step goes on."""

import io
import time

from rich.console import Console

from demo.narrator import Narrator
from tests.support import eventually


def test_in_a_pipe_a_step_that_goes_on_is_told_every_so_often() -> None:
    """With how long and how far it is; and no more once it is over. What looks like markup is none."""
    printed = io.StringIO()
    narrator = Narrator(Console(file=printed, width=200, highlight=False), every_seconds=0.1)
    with narrator.step("Train [bold]") as step:
        eventually(lambda: "    … 0 s\n" in printed.getvalue(), 5)
        step.progress("convert [red]running")
        eventually(lambda: ": convert [red]running\n" in printed.getvalue(), 5)
        step.outcome = "PROMOTE"
    assert printed.getvalue().splitlines()[0] == " 1  Train [bold] …"
    assert " 1  Train [bold]: PROMOTE  0." in printed.getvalue().splitlines()[-1]
    length = len(printed.getvalue())
    time.sleep(0.3)
    assert len(printed.getvalue()) == length


def test_a_step_that_fails_is_told_no_longer() -> None:
    """Or it would go on through whatever is told next."""
    printed = io.StringIO()
    narrator = Narrator(Console(file=printed, width=200), every_seconds=0.05)
    try:
        with narrator.step("Deploy"):
            raise OSError("full")
    except OSError:
        length = len(printed.getvalue())
    time.sleep(0.2)
    assert len(printed.getvalue()) == length
