"""The table of use cases. Another use case is a file beside this one and a row here; real records of it, for the demo
and the backtest, are a file and a row in ``datasets/``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel, TypeAdapter

from schemas.contract import check_use_case
from schemas.finite import finite, refused
from schemas.label import Label
from schemas.rate import Rate
from schemas.record import MAX_RECORD_BYTES, Record
from schemas.use_cases import flights, weather

_read_label = finite(TypeAdapter(Label).validator.validate_json)


@dataclass(frozen=True)
class UseCase:
    """What the system needs to know of one kind of record."""

    name: str
    features: type[BaseModel]
    """The model's features. Spark, Parquet, model-input and Datastore shapes are derived from it."""
    labels: tuple[str, str]
    """``(negative, positive)``."""
    example_features: Mapping[str, Any] = field(compare=False, repr=False)
    """Features of one good record, as JSON has them: what a smoke test sends."""
    rates: tuple[Rate, ...] = ()
    """History features, computed in training and carried by the artefact."""

    @property
    def positive(self) -> str:
        """The label whose probability the model gives."""
        return self.labels[1]

    @cached_property
    def record(self) -> type[Record[Any]]:
        """The record type, features included."""
        return Record[self.features]  # type: ignore[name-defined]

    @cached_property
    def read_record(self) -> Callable[[bytes], Record[Any]]:
        """From a document to its record: the one reader of records, for what comes in and for what is archived.

        It raises pydantic's ValidationError, a ValueError, for what is none; :func:`schemas.dead_letter.explain` says
        why.
        """
        # The validator itself: pydantic's method around it only sorts out arguments that are not given here.
        return finite(TypeAdapter(self.record).validator.validate_json, MAX_RECORD_BYTES)

    @cached_property
    def read_features(self) -> Callable[[Mapping[str, Any]], BaseModel]:
        """From values to the features that they are: the one reader of what was a record's once, such as a golden row.

        It raises pydantic's ValidationError for what is none, as :attr:`read_record` does.
        """
        return refused(TypeAdapter(self.features).validator.validate_python)

    def read_label(self, data: bytes) -> Label:
        """The label that a document is: the one reader of labels.

        Raises:
            ValueError: it is none, or none of this use case's; :func:`schemas.dead_letter.explain` says why.
        """
        return self.check_label(_read_label(data))

    def check_label(self, label: Label) -> Label:
        """Return ``label``.

        Raises:
            ValueError: its label is none of this use case's.
        """
        if label.label not in self.labels:
            raise ValueError(f"label: expected one of {', '.join(self.labels)} for use case {self.name}")
        return label


USE_CASES: dict[str, UseCase] = {
    row.name: row
    for row in (
        UseCase(
            name="flights",
            features=flights.FlightFeatures,
            labels=flights.LABELS,
            example_features=flights.EXAMPLE,
            rates=flights.RATES,
        ),
        UseCase(
            name="weather",
            features=weather.WeatherFeatures,
            labels=weather.LABELS,
            example_features=weather.EXAMPLE,
        ),
    )
}


def use_case(name: str) -> UseCase:
    """The row called ``name``, which every part can keep.

    Raises:
        KeyError: no such row; the text lists those there are.
        UseCaseError: what it declares, some part could not keep; the text names each mistake and its fix.
    """
    try:
        case = USE_CASES[name]
    except KeyError:
        raise KeyError(f"no use case {name!r}; there are: {', '.join(sorted(USE_CASES))}") from None
    check_use_case(case)
    return case
