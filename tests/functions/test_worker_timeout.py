"""The functions as they are deployed, on instances that get no processor for longer than a request may take."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.functions.doubles.function_process import FunctionProcess, stage

REQUEST_SECONDS = 2
"""What Cloud Run sets to the time that a request may take, a minute as a rule."""
FROZEN_SECONDS = 3.5
UNITS = {"ingest_fast": "ingest_fast", "classify_push": "classify", "classify_http": "classify", "submit": "submit"}
VARIABLES = {
    "PROJECT": "local-dev",
    "MODELS_BUCKET": "local-dev-models",
    "DATASTORE_ENDPOINT": "http://127.0.0.1:9",
    "PUBSUB_ENDPOINT": "http://127.0.0.1:9",
    "CLOUD_RUN_TIMEOUT_SECONDS": str(REQUEST_SECONDS),
}


def workers(function: FunctionProcess) -> list[int]:
    """The processes that answer, below the one that watches over them."""
    return [child.pid for child in psutil.Process(function.pid).children()]


@pytest.fixture
def functions(tmp_path: Path):
    """All four, running."""
    with ExitStack() as stack:
        made = [FunctionProcess(stage(unit, tmp_path / name / unit), name, VARIABLES) for name, unit in UNITS.items()]
        for one in made:
            stack.enter_context(one)
        yield made


def test_no_worker_is_killed_for_having_slept(functions: list[FunctionProcess]) -> None:
    """Frozen for longer than its server waits for a sign of life, each is the same process afterwards, and what was
    asked of it in its sleep, many requests at once, is answered to the last byte."""
    before = {one.url: workers(one) for one in functions}
    assert all(len(pids) == 1 for pids in before.values())
    for one in functions:
        os.killpg(one.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(32) as pool, httpx.Client(timeout=20, limits=httpx.Limits(max_connections=None)) as client:
        time.sleep(FROZEN_SECONDS)  # nothing can be seen of them meanwhile
        asked = {one.url: [pool.submit(client.get, f"{one.url}/openapi.json") for _ in range(8)] for one in functions}
        for one in functions:
            os.killpg(one.pid, signal.SIGCONT)
        statuses = {url: {answer.result().status_code for answer in answers} for url, answers in asked.items()}
        told = {url: {answer.result().json().get("openapi") for answer in answers} for url, answers in asked.items()}
    by_name = {name: one.url for name, one in zip(UNITS, functions, strict=True)}
    for name, url in by_name.items():
        pushed = name in ("ingest_fast", "classify_push")
        assert statuses[url] == ({405} if pushed else {200}), name
        assert told[url] == ({None} if pushed else {"3.1.0"}), name
    time.sleep(1.5)  # who watches looks once a second, and a worker that it did not kill gives no sign
    for one in functions:
        assert workers(one) == before[one.url], one.log()[-2000:]
        assert "WORKER TIMEOUT" not in one.log()
