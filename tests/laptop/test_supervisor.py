"""All servers under one supervisor: started, restarted, and gone with it, however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from laptop import secret
from laptop.supervisor import SERVICES, Supervisor, SupervisorError
from tests.support import ROOT, eventually

# Two that have children of their own, and one more.
SOME = "storage,functions,dataflow"


class Up:
    """``python -m laptop up`` in a process of its own."""

    def __init__(self, state: Path, only: str = "") -> None:
        self.state = state
        self._log = state.with_suffix(".log")
        command = [sys.executable, "-m", "laptop", "up", "--state", str(state)]
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--only", only] if only else command, cwd=ROOT, stdout=output, stderr=output
            )
        self.all = psutil.Process(self.process.pid)

    @property
    def printed(self) -> str:
        """All that it printed so far."""
        return self._log.read_text()

    def ready(self) -> dict[str, dict[str, str]]:
        """Wait until it says so; answers the endpoints."""
        eventually(lambda: "\nready\n" in self.printed or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.printed
        return json.loads((self.state / "endpoints.json").read_text())

    def server(self, service: str) -> psutil.Process | None:
        """The process of a server, if it runs."""
        for child in self.all.children():
            try:
                if f"laptop.{service}" in child.cmdline():
                    return child
            except psutil.Error:
                continue
        return None

    def family(self) -> list[psutil.Process]:
        """All processes below it."""
        return self.all.children(recursive=True)

    def kill(self) -> None:
        """For the end of a test."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """All services."""
    running = Up(tmp_path_factory.mktemp("up") / "state")
    running.ready()
    yield running
    running.process.terminate()
    running.process.wait(30)


def healthy(up: Up, address: dict[str, str], service: str) -> bool:
    """Whether the server answers, over HTTP and on its gRPC port."""
    import urllib.request

    try:
        request = urllib.request.Request(f"{address['http']}/_laptop/health", headers=secret.headers(up.state))
        with urllib.request.urlopen(request, timeout=5) as response:
            host, _, port = address["grpc"].rpartition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
            return json.load(response) == {"service": service}
    except OSError:
        return False


def test_up_starts_every_service_and_prints_where_it_listens(up: Up) -> None:
    """Each answers at the address that is printed and kept in endpoints.json."""
    endpoints = up.ready()
    assert set(endpoints) == set(SERVICES)
    for service, address in endpoints.items():
        assert healthy(up, address, service)
        (line,) = [line for line in up.printed.splitlines() if line.split()[:1] == [service]]
        assert address["http"] in line
        assert address["grpc"] in line


def test_every_port_is_on_loopback_only(up: Up) -> None:
    """No process of it listens on another address of the machine."""
    listening = [
        connection.laddr
        for process in up.family()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    # gRPC's sockets are of IPv6 and show the IPv4 address in that form.
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    ports = {int(url.rsplit(":", 1)[1]) for pair in up.ready().values() for url in pair.values()}
    assert ports <= {address.port for address in listening}


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_server_is_started_again_on_the_same_ports(up: Up, service: str) -> None:
    """Within seconds, as another process."""
    address = up.ready()[service]
    before = up.server(service)
    assert before is not None
    before.kill()
    eventually(lambda: (now := up.server(service)) is not None and now.pid != before.pid)
    eventually(lambda: healthy(up, address, service), 30)
    assert f"{service} ended with -9" in up.printed


def test_the_state_is_for_its_owner_only(tmp_path: Path) -> None:
    """Also in a folder that was open to everybody before; so is all that the servers make in it, whatever the umask."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    before = os.umask(0o022)
    try:
        with Supervisor(state, ["storage", "pubsub", "functions"]) as servers:
            servers.wait_ready()
            client = Client(
                "local-dev",
                AnonymousCredentials(),
                client_options={"api_endpoint": servers.endpoints["storage"]["http"]},
            )
            client.create_bucket("bucket").blob("a/b").upload_from_string("x")
    finally:
        os.umask(before)
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "storage" / "bucket" / "a" / "b").exists()
    assert [path.name for path in state.rglob("*") if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("content", ["", "[]", "5", '{"pubsub": 5}', '{"pubsub": {"http": "no port"}}', "\xff"])
def test_a_broken_list_of_addresses_is_told(tmp_path: Path, content: str) -> None:
    """With the file and what to do; and the folder is free again."""
    (tmp_path / "endpoints.json").write_bytes(content.encode("latin-1"))
    for _ in range(2):
        with (
            pytest.raises(SupervisorError, match=r"endpoints\.json is no list of the servers' addresses .*: delete it"),
            Supervisor(tmp_path, only=[]),
        ):
            pass


def test_a_second_supervisor_on_the_state_is_refused(up: Up) -> None:
    """With the process that has it, and the first one goes on."""
    done = subprocess.run(
        [sys.executable, "-m", "laptop", "up", "--state", str(up.state)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"run already, under process {up.process.pid}" in done.stderr
    assert "Traceback" not in done.stderr
    assert healthy(up, up.ready()["pubsub"], "pubsub")


def test_a_server_that_always_dies_is_backed_off_and_reported(tmp_path: Path, caplog: Any) -> None:
    """Its log ends the error; the pauses between the starts grow; it comes up once the cause is gone."""
    with Supervisor(tmp_path, ["storage"]) as servers:
        servers.wait_ready()
        port = int(servers.endpoints["storage"]["http"].rsplit(":", 1)[1])
        os.kill(servers.pid("storage"), signal.SIGKILL)
        with eventually(lambda: listener(port)):
            eventually(lambda: len(pauses(caplog)) >= 3, 30)
            with pytest.raises(SupervisorError, match=r"(?s)storage does not answer .*storage\.log.*address already"):
                servers.wait_ready(0.5)
        assert pauses(caplog)[:3] == [0.2, 0.4, 0.8]
        servers.wait_ready(30)


def listener(port: int) -> socket.socket | None:
    """Another program on the port."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def pauses(caplog: Any) -> list[float]:
    """Seconds that the supervisor said it waits before it starts a server again."""
    return [record.args[2] for record in caplog.records if "started again" in record.msg]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_supervisor_ends(tmp_path: Path, number: int) -> None:
    """Whatever ended it; the state can be used again at once."""
    up = Up(tmp_path / "state", SOME)
    try:
        up.ready()
        family = up.family()
        assert len(family) >= len(SOME.split(","))
        up.process.send_signal(number)
        code = up.process.wait(30)
        assert code == (-number if number == signal.SIGKILL else 0)
        if number == signal.SIGKILL:
            again = Up(tmp_path / "state", SOME)
            try:
                again.ready()
            finally:
                again.process.terminate()
                again.process.wait(30)
        eventually(lambda: not any(process.is_running() for process in family), 30)
    finally:
        up.kill()


def test_a_stop_while_the_servers_start_is_heeded(tmp_path: Path) -> None:
    """wait_ready returns at once instead of waiting for a server that does not come."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        address = {"http": f"http://127.0.0.1:{port}", "grpc": f"127.0.0.1:{port}"}
        (tmp_path / "endpoints.json").write_text(json.dumps({"storage": address}))
        stopped = threading.Event()
        stopped.set()
        with Supervisor(tmp_path, ["storage"]) as servers:
            servers.wait_ready(60, stopped)


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    """With the names that there are."""
    with pytest.raises(SupervisorError, match="no service pubsbu; there are: pubsub,"):
        Supervisor(tmp_path, ["pubsbu"])
