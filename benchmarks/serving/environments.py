"""An environment for each peer, below ``.nox``: what they need cannot be installed together."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lunation.settings import ROOT

PEERS = Path(__file__).parent / "peers"
INSTALL_SECONDS = 900.0


class NotInstalledError(Exception):
    """The peer's packages cannot be installed here; the text ends with what the installer said."""


def python(peer: str, say: Callable[[str], None]) -> Path:
    """The interpreter of the peer's environment, which is made on first use, with the pinned packages.

    Raises:
        NotInstalledError: no network, or no package for this machine.
    """
    folder = ROOT / ".nox" / f"bench-{peer}"
    interpreter = folder / "bin" / "python"
    requirements = PEERS / peer / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / "requirements.sha256"
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    say(f"installing {peer} into .nox/bench-{peer}, once: {len(requirements.read_text().splitlines())} packages")
    shutil.rmtree(folder, ignore_errors=True)
    if uv := _uv():
        _run(peer, [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run(peer, [*uv, "pip", "install", "--quiet", "--python", str(interpreter), "-r", str(requirements)])
    else:
        _run(peer, [sys.executable, "-m", "venv", str(folder)])
        _run(peer, [str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(requirements)])
    stamp.write_text(wanted)
    return interpreter


def _uv() -> list[str] | None:
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    return [found] if found else None


def _run(peer: str, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"{peer}: not installed after {INSTALL_SECONDS:.0f} s") from None
    if done.returncode:
        raise NotInstalledError(f"{peer}: {done.stderr.strip()[-500:]}")
