"""An empty project to plan against, for a target that is only an example."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lunation.settings import Target
from rehearsal.project import Project
from rehearsal.stage import Stage


@contextmanager
def empty_project(target: Target) -> Iterator[Target]:
    """``target``, with a project behind it in which there is nothing and nothing can be made."""
    with TemporaryDirectory() as folder, Stage(Project(target.project), documented=False) as stage:
        yield target.model_copy(update={"endpoints": stage.write(Path(folder) / "endpoints.json")})
