"""How the three drivers run: arguments, then the session and all that the work imports, then the work."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from spark.instruments import instrumented
from spark.job import Job, exit_code, parse
from spark.session import start

Work = Callable[[Any, Any, Job], None]
"""Takes the session, a storage client and the arguments."""


def run(unit: str, description: str, load: Callable[[], tuple[Work, Any]], argv: Sequence[str]) -> int:
    """Run a driver; answers its exit code.

    Args:
        unit: the job's name.
        description: for ``--help``.
        load: imports what the work needs, and answers it with a storage client.
        argv: the arguments, without the program's name.
    """
    job = parse(unit, description, argv)
    storage: Any = None

    def work() -> None:
        nonlocal storage
        # Each takes the better part of a second, Java's the one and Python's the other.
        with ThreadPoolExecutor(1) as pool, _short_turns():
            loading = pool.submit(load)
            session = start(f"{unit} {job.run_id}")
            loaded, storage = loading.result()
        from spark import failure

        failure.clear(storage, job)
        loaded(session, storage, job)

    def leaving_its_cause() -> None:
        try:
            work()
        except Exception as error:
            from spark import failure

            raise failure.left(storage, job, error) from error

    return exit_code(instrumented(unit, job, leaving_its_cause))


@contextmanager
def _short_turns() -> Iterator[None]:
    """Threads of Python give way at once within the block: a session starts by 240 calls to Java, and after each answer
    would wait for the thread that imports, five milliseconds at a time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
