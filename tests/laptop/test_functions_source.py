"""A function's requirements are read as pip reads them, as far as a machine can tell that installs nothing."""

import importlib.metadata

from laptop.functions.source import unmet

HASH = "--hash=sha256:" + 64 * "0"
INSTALLED = f"functions-framework=={importlib.metadata.version('functions-framework')}"


def test_a_lock_with_hashes_is_met_by_its_versions() -> None:
    """Each package on a line that goes on with its hashes, as uv and pip-tools write it."""
    assert unmet(f"# locked\n{INSTALLED} \\\n    {HASH} \\\n    {HASH}\nflask ; sys_platform == 'win32' {HASH}\n") == []
    assert unmet(f"{INSTALLED} {HASH} {HASH}") == []
    (problem,) = unmet(f"functions-framework==0.1 \\\n    {HASH}\n")
    assert problem.startswith("functions-framework==0.1 is asked for")


def test_a_line_that_goes_on_with_anything_else_is_told() -> None:
    """It would be left out in silence."""
    (problem,) = unmet(f"{INSTALLED} \\\n    ; sys_platform == 'linux'\n")
    assert "line 2" in problem
    assert "continues a line" in problem
