"""The table of data sets: real records, which the demo, the backtest and the benchmarks replay. Nothing that is
deployed imports it. Another data set is a file beside this one and a row here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from datasets import flights, weather
from datasets.example import Document, Example

__all__ = ["DATA_SETS", "DataSet", "DataSetError", "Document", "Example", "data_set"]


class DataSetError(LookupError):
    """A use case without a data set to replay. The text says what to add, and where."""


@dataclass(frozen=True)
class DataSet:
    """Real records of a use case, with their outcomes where these became known."""

    use_case: str
    """The use case's name in ``schemas/use_cases/``."""
    history: Callable[[datetime | None], Iterator[Example]]
    """Every record with its label, in order of the records' event time, up to a time or whole."""


DATA_SETS: dict[str, DataSet] = {
    row.use_case: row
    for row in (
        DataSet("flights", flights.history),
        DataSet("weather", weather.history),
    )
}


def data_set(use_case: str) -> DataSet:
    """The data set of the use case called ``use_case``.

    Raises:
        DataSetError: it has none; the text lists those there are.
    """
    try:
        return DATA_SETS[use_case]
    except KeyError:
        raise DataSetError(
            f"use case {use_case} has no data set to replay; these have one: {', '.join(sorted(DATA_SETS))}. Add a "
            f"file with history(until) to datasets/, and the row DataSet({use_case!r}, ...) to DATA_SETS in "
            "datasets/__init__.py; docs/use-cases.md shows both"
        ) from None
