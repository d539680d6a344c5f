"""The console script ``lunation``: finds the project that one is in, and runs the command that lies there.

The one file of this project that is installed, as ``lunation_launch``, into the shared environment (pyproject.toml).
Nothing else of it is on that environment's path, so what a test runs from a staged folder finds only what is in there.
"""

import sys
from pathlib import Path

SETTINGS = "lunation.toml"


def main() -> None:
    """Run the command of the project whose folder, or one below it, is the current one."""
    root = project(Path.cwd())
    if root is None:
        sys.exit(f"error: there is no {SETTINGS} in {Path.cwd()} or a folder above it: go into the project, {_where()}")
    sys.path.insert(0, str(root))
    from lunation.cli import main as command

    command()


def project(folder: Path) -> Path | None:
    """The nearest folder from ``folder`` upwards with the settings and the command; None: there is none."""
    for one in (folder, *folder.parents):
        if (one / SETTINGS).is_file() and (one / "lunation" / "cli.py").is_file():
            return one
    return None


def _where() -> str:
    """What to type; the project whose environment this is, if it is in one."""
    owner = project(Path(sys.prefix))
    return f"for example: cd {owner}" if owner is not None else "the folder that `git clone` made"
