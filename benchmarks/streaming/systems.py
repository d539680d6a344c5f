"""The two systems under test, each behind the same four verbs: start, send, look at the answers, switch the model."""

import hashlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import orjson
import psutil
import urllib3
from google.cloud import datastore, storage  # type: ignore[attr-defined]

from benchmarks.streaming.train import VERSIONS
from laptop.dataproc.java import java_home
from laptop.supervisor import Supervisor
from lunation.deploy.artefacts import stage_function
from lunation.settings import ROOT

PROJECT = "local-dev"
BUCKET = "bench-models"

Answered = Callable[[str, float, str], None]
"""Called with a record's id, the time of its answer and the model version, which a streaming job does not tell."""


class System(Protocol):
    """One system under test."""

    name: str

    def start(self, answered: Answered) -> None:
        """Start it; returns at once."""

    def send(self, record_id: str, document: bytes) -> None:
        """Hand in one record; does not wait for its answer."""

    def switch(self) -> None:
        """Put the second version of the model in the place of the first."""

    def processes(self) -> list[psutil.Process]:
        """What it runs in."""

    def stop(self) -> None:
        """End it."""


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Function:
    """``classify``, from its staged zip, in one functions-framework process, asked over HTTP."""

    name = "function"

    def __init__(self, folder: Path, servers: Supervisor) -> None:
        self._folder = folder
        self._servers = servers
        self._process: subprocess.Popen[bytes] | None = None
        self._source = folder / "classify"
        with zipfile.ZipFile(stage_function("classify").path) as staged:
            staged.extractall(self._source)
        bucket = storage.Client(project=PROJECT).create_bucket(BUCKET)
        for version in VERSIONS:
            for name in ("model.onnx", "golden.json"):
                blob = bucket.blob(f"models/2013-02-12/{version}/{name}")
                blob.upload_from_filename(folder / "served" / name)
            blob = bucket.blob(f"models/2013-02-12/{version}/manifest.json")
            blob.upload_from_filename(folder / "served" / f"manifest-{version}.json")

    def start(self, answered: Answered) -> None:
        """Start the server; records are sent over eight connections that stay open."""
        self._point(0)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._answered = answered
        variables = {
            "PROJECT": PROJECT,
            "MODELS_BUCKET": BUCKET,
            "DATASTORE_ENDPOINT": f"http://{self._servers.endpoints['datastore']['grpc']}",
            "STORAGE_EMULATOR_HOST": self._servers.endpoints["storage"]["http"],
        }
        command = [str(Path(sys.executable).parent / "functions-framework"), "--source", str(self._source / "main.py")]
        with (self._folder / "function.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--target", "classify_http", "--host", "127.0.0.1", "--port", str(port)],
                cwd=self._source,
                env={"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1", **variables},
                stdout=log,
                stderr=log,
            )
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=8, block=True, retries=False, timeout=30)
        self._workers = ThreadPoolExecutor(8)

    def send(self, record_id: str, document: bytes) -> None:
        """One request."""
        self._workers.submit(self._ask, record_id, document)

    def _ask(self, record_id: str, document: bytes) -> None:
        while True:
            try:
                response = self._pool.request("POST", "/v1/classify", body=document)
            except urllib3.exceptions.HTTPError:  # not up yet
                time.sleep(0.01)
                continue
            if response.status == 200:
                break
            if response.status != 503:
                raise RuntimeError(f"the function answered {response.status}: {response.data[:300]!r}")
            time.sleep(0.01)
        self._answered(record_id, time.monotonic(), orjson.loads(response.data)["model_version"])

    def switch(self) -> None:
        """Move the pointer."""
        self._point(1)

    def _point(self, place: int) -> None:
        version = VERSIONS[place]
        client = datastore.Client(project=PROJECT)
        entity = datastore.Entity(client.key("ModelPointer", "flights"))
        manifest = (self._folder / "served" / f"manifest-{version}.json").read_bytes()
        entity.update(
            {
                "use_case": "flights",
                "model_version": f"2013-02-12/{version}",
                "uri": f"gs://{BUCKET}/models/2013-02-12/{version}",
                "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
                "generation": place + 1,
                "moved_at": datetime.now(UTC),
            }
        )
        client.put(entity)

    def processes(self) -> list[psutil.Process]:
        """The server."""
        assert self._process is not None
        return tree(psutil.Process(self._process.pid))

    def stop(self) -> None:
        """End it."""
        _end(self._process)
        self._workers.shutdown(cancel_futures=True)
        self._pool.close()


class StreamingJob:
    """``benchmarks.streaming.job`` in a Java process of two cores, fed over a socket."""

    def __init__(self, folder: Path, trigger_seconds: float) -> None:
        self.name = f"streaming, trigger {trigger_seconds:g} s" if trigger_seconds else "streaming, default trigger"
        self._folder = folder
        self._trigger_seconds = trigger_seconds
        self._process: subprocess.Popen[str] | None = None
        self._waiting: deque[bytes] = deque()
        self._kept: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def start(self, answered: Answered) -> None:
        """Listen, and start the job that connects."""
        self._answered = answered
        self._listener = socket.create_server(("127.0.0.1", 0))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "JAVA_HOME": str(java_home()),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_SUBMIT_ARGS": "--master local[2] --driver-memory 2g --conf spark.ui.enabled=false pyspark-shell",
        }
        port = self._listener.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.streaming.job", str(self._folder), str(port)]
        with (self._folder / "job.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self._trigger_seconds)],
                cwd=self._folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._feed, args=(self._listener, self._kept), daemon=True).start()
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def send(self, record_id: str, document: bytes) -> None:
        """One line."""
        self._kept.put(document + b"\n")

    def _feed(self, listener: socket.socket, lines: "queue.SimpleQueue[bytes | None]") -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # ended before the job came up
            return
        with connection:
            while (line := lines.get()) is not None:
                try:
                    connection.sendall(line)
                except OSError:  # the job was ended
                    return

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._answered(line.split(" ", 1)[0], time.monotonic(), "")

    def switch(self) -> None:
        """A running query holds the model that it was planned with: the job is started again."""
        self.stop()
        self._kept = queue.SimpleQueue()
        self.start(self._answered)

    def processes(self) -> list[psutil.Process]:
        """The driver and its Java."""
        assert self._process is not None
        return tree(psutil.Process(self._process.pid))

    def stop(self) -> None:
        """End it, its Java included."""
        self._kept.put(None)
        below = self.processes()
        _end(self._process)
        for process in below:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._listener.close()


def _end(process: "subprocess.Popen[bytes] | subprocess.Popen[str] | None") -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
