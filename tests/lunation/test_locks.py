"""What each unit installs in the cloud is pinned to the last package and hash, and is what the tests run with."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

UNITS = ("functions/ingest_fast", "functions/classify", "functions/submit", "dataflow", "spark")
LINUX = {"python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux", "platform_system": "Linux",
         "platform_machine": "x86_64", "implementation_name": "cpython", "platform_python_implementation": "CPython",
         "os_name": "posix"}  # fmt: skip
"""What the markers of a requirement are told: every unit runs on Python 3.11 on Linux."""


def asked_for(unit: str) -> list[Requirement]:
    """What the unit's own requirements.in says."""
    lines = (ROOT / unit / "requirements.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def locked(unit: str) -> dict[str, str]:
    """Package to version in the unit's requirements.txt, each of which must have a hash."""
    found = {}
    for entry in re.sub(r"\s*\\\n\s*", " ", (ROOT / unit / "requirements.txt").read_text()).splitlines():
        match = re.fullmatch(r"([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)", entry)
        assert match, f"{unit}: {entry[:80]!r} is not a pinned package with its hashes"
        found[canonicalize_name(match.group(1))] = match.group(2)
    return found


def needed(requirements: list[Requirement]) -> set[str]:
    """All that gets installed: what is asked for, what that needs, and so on, as the installed packages say."""
    seen: set[tuple[str, str]] = set()
    waiting = [(one, extra) for one in requirements for extra in ("", *one.extras)]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in importlib.metadata.requires(name) or []:
            further = Requirement(text)
            if further.marker is None or further.marker.evaluate({**LINUX, "extra": extra}):
                waiting += [(further, one) for one in ("", *further.extras)]
    return {name for name, _ in seen}


@pytest.mark.parametrize("unit", UNITS)
def test_a_lock_holds_all_that_gets_installed_and_nothing_else(unit: str) -> None:
    """A package that is not in it would come in whatever version there is on the day of the build."""
    assert set(locked(unit)) == needed(asked_for(unit))


@pytest.mark.parametrize("unit", UNITS)
def test_a_lock_is_what_the_tests_run_with(unit: str) -> None:
    """Each version is that of the shared environment; what a unit pins itself is that version, too."""
    lines = (ROOT / "requirements.txt").read_text().split()
    shared = {
        canonicalize_name(name.partition("[")[0]): version
        for name, _, version in (one.partition("==") for one in lines)
    }
    versions = locked(unit)
    assert versions == {name: shared.get(name) for name in versions}
    for requirement in asked_for(unit):
        assert str(requirement.specifier) == f"=={versions[canonicalize_name(requirement.name)]}"


def test_every_unit_with_requirements_is_locked() -> None:
    """Another unit does not ship without a lock, and ``nox -s lock`` makes those that there are."""
    made = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("*/requirements.in")}
    made |= {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("functions/*/requirements.in")}
    assert made == set(UNITS)
    noxfile = Path(ROOT / "noxfile.py").read_text()
    (listed,) = re.findall(r"^LOCKED = \((.*)\)$", noxfile, re.MULTILINE)
    assert set(re.findall(r'"([^"]+)"', listed)) == set(UNITS)
