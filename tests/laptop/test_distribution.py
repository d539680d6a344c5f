"""``laptop`` is a distribution of its own: its folder and what it declares are enough, wherever they are installed."""

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from laptop.supervisor import SERVICES
from tests.support import ROOT, eventually

LAPTOP = ROOT / "laptop"
PROJECT: dict[str, Any] = tomllib.loads((LAPTOP / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def with_their_own(requirements: Iterable[str]) -> set[str]:
    """The distributions that installing ``requirements`` brings, as the installed ones declare their own."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for one in ("", *requirement.extras):
            name = canonicalize_name(requirement.name)
            if (name, one) not in found:
                found.add((name, one))
                waiting += [(Requirement(text), one) for text in importlib.metadata.requires(name) or ()]
    return {name for name, _ in found}


def put(name: str, packages: Path) -> None:
    """Link the files of an installed distribution into ``packages``, compiled ones included."""
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or ():
        if file.parts[0] == "..":  # a script
            continue
        source = Path(str(distribution.locate_file(file)))
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        for one in (source, compiled) if source.suffix == ".py" else (source,):
            link = packages / file.parent / one.relative_to(source.parent)
            if one.exists() and not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(one)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the package and its dependencies, no extras, and nothing else.

    It is what ``pip install ./laptop`` makes of an empty one, without the network that this would need.
    """
    folder = tmp_path_factory.mktemp("distribution") / "environment"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in with_their_own(PROJECT["project"]["dependencies"]):
        put(name, packages)
    hatch = PROJECT["tool"]["hatch"]["build"]
    for pattern in hatch["include"]:
        for file in LAPTOP.rglob(pattern):
            copy = packages / hatch["targets"]["wheel"]["sources"][""] / file.relative_to(LAPTOP)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return folder / "bin" / "python"


@pytest.fixture
def command(python: Path, tmp_path: Path) -> list[str]:
    """The console script, as an installer writes it."""
    module, _, name = PROJECT["project"]["scripts"]["laptop"].partition(":")
    script = tmp_path / "laptop"
    script.write_text(f"import sys\nsys.path.pop(0)\nfrom {module} import {name}\nsys.exit({name}())\n")
    return [str(python), str(script)]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def clean() -> dict[str, str]:
    """This environment, without what would let a process find the packages of this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def test_its_help_names_every_service_and_how_to_start_them(command: list[str], elsewhere: Path) -> None:
    """From an empty folder, with nothing on the path but what is installed with it."""
    done = subprocess.run(
        [*command, "--help"], cwd=elsewhere, env=clean(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in (*SERVICES, "laptop up", "laptop env"):
        assert word in done.stdout


def test_what_it_declares_is_enough_for_all_servers_to_start(command: list[str], elsewhere: Path) -> None:
    """Neither a package of this repository nor one of its dependencies is needed; no server waits for an extra."""
    log = elsewhere.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen([*command, "up"], cwd=elsewhere, env=clean(), stdout=output, stderr=output)
    try:
        eventually(lambda: "\nready\n" in log.read_text() or process.poll() is not None, 90, "ready")
        assert process.poll() is None, log.read_text()
        assert "started again" not in log.read_text()
        assert {line.split()[0] for line in log.read_text().splitlines() if "gRPC" in line} == set(SERVICES)
        done = subprocess.run(
            [*command, "env"], cwd=elsewhere, env=clean(), capture_output=True, text=True, timeout=60, check=False
        )
        assert "export PUBSUB_EMULATOR_HOST=127.0.0.1:" in done.stdout, done.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert [path.name for path in elsewhere.iterdir()] == [".laptop"]


def test_it_declares_the_versions_that_the_tests_run_with() -> None:
    """Its dependencies and extras are in requirements.txt, so the set-up of this repository has all that it needs."""
    pinned = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    for text in (*PROJECT["project"]["dependencies"], *(text for extra in EXTRAS.values() for text in extra)):
        one = Requirement(text)
        assert str(one.specifier) == f"=={pinned[one.name]}", f"laptop/pyproject.toml: {text}"


def test_its_readme_tells_every_extra() -> None:
    """Who runs functions, Spark or Beam on the servers has to know what to install."""
    readme = (LAPTOP / "README.md").read_text()
    assert set(re.findall(r"\./laptop\[(\w+)\]", readme)) == set(EXTRAS)


def test_nothing_in_it_names_the_project_around_it() -> None:
    """Whoever installs it alone meets no name, folder or account of another project."""
    files = [path for path in LAPTOP.rglob("*") if path.suffix in (".py", ".md", ".toml")]
    assert files
    assert [str(path) for path in files if "lunation" in path.read_text().lower()] == []
