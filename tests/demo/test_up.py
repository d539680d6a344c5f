"""``nox -s up`` on a state that cannot be served says why, and ends."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from laptop.ports import HOST, free_port
from tests.support import ROOT


def test_a_port_in_use_is_told_in_a_line(tmp_path: Path) -> None:
    """With whose it is, instead of a server that starts again and again for a minute."""
    port = free_port()
    (tmp_path / "endpoints.json").write_text(
        f'{{"pubsub": {{"http": "http://{HOST}:{port}", "grpc": "{HOST}:{free_port([port])}"}}}}'
    )
    with socket.create_server((HOST, port)):
        done = subprocess.run(
            [sys.executable, "-m", "demo.up", "--state", str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "LUNATION_USE_CASE": "weather"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stdout.startswith(f"error: port {port}, which pubsub had so far, is in use by process {os.getpid()} (")
    assert "Traceback" not in done.stderr
