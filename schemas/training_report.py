"""What the training job leaves for the evaluation: which rows it learned from, and how its model is fed."""

import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Windows:
    """First and last day of each window, inclusive."""

    train_from: date
    train_to: date
    evaluate_from: date
    evaluate_to: date

    def as_text(self) -> dict[str, str]:
        """ISO dates by name, in alphabetical order, as the manifest has them."""
        return {name: day.isoformat() for name, day in sorted(asdict(self).items())}


@dataclass(frozen=True)
class WindowRows:
    """Labelled rows of each window."""

    train: int
    evaluate: int


@dataclass(frozen=True)
class GoldenCounts:
    """What became of the records that golden rows were made of."""

    rows: int
    """Golden rows that were written."""
    refused: int
    """Records that the features class does not take again."""


class TrainingReport(BaseModel):
    """``train.json`` in the run's work folder, written last: it closes the job."""

    NAME: ClassVar[str] = "train.json"
    model_config = ConfigDict(frozen=True)

    use_case: str
    run_id: str
    inputs: list[str]
    """Names of the model's inputs, in order."""
    input_kinds: list[str]
    """``category`` or ``number``, by position."""
    categories: dict[str, list[str]]
    """For each category its known values, in the order of their index."""
    columns: list[str]
    """What the columns of the trees' vector are called: inputs that they see as they are, then the rates."""
    threshold: float
    """The probability from which the positive label is answered."""
    positive_share: float
    """Share of the training rows with the positive label, 0 to 1."""
    rows: WindowRows
    windows: Windows
    seed: int
    parameters: dict[str, Any]
    """The classifier's, with ``model`` (its class) and ``evaluation_days``."""
    golden: GoldenCounts
    seconds: float
    """Wall seconds of the job."""

    def to_json(self) -> bytes:
        """The file's content, with its keys in alphabetical order."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True).encode()
