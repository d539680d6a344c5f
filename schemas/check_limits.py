"""How far the data of a training may be from what is usual, before its model is held back."""

from pydantic import BaseModel, ConfigDict, Field


class CheckLimits(BaseModel):
    """The table ``[checks]`` of ``lunation.toml``; deploy hands it to the jobs as one argument. Shares are of 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corrupt: float = Field(default=0.01, ge=0, le=1)
    """Share of the archive's lines that may be unreadable."""
    duplicates: float = Field(default=0.5, ge=0, le=1)
    """Share of the readable records that may be repetitions. They are dropped and do no harm, so the limit is wide;
    but a replay that never ends shows here."""
    volume_ratio: float = Field(default=5.0, gt=1)
    """A day may have so many times more records than its weekday's median before, or so many times fewer."""
    volume_rows: int = Field(default=20, ge=1)
    """Weekdays with a lower median are not judged: chance alone empties them."""
    missing_rise: float = Field(default=0.2, ge=0, le=1)
    """By how much the share of missing values of an input may rise."""
    unseen: float = Field(default=0.2, ge=0, le=1)
    """Share of records that may have a category that the model does not know."""
    labelled_ratio: float = Field(default=0.5, ge=0, le=1)
    """The share of records with a label may fall to so much of what it was."""
    label_odds: float = Field(default=4.0, gt=1)
    """The odds of the positive label may change by this factor, up or down."""
    label_delay_ratio: float = Field(default=4.0, gt=1)
    """Nine tenths of the labels may take so many times longer than they did."""
    labels_early: float = Field(default=0.01, ge=0, le=1)
    """Share of the labels that may be older than their record: outcomes known beforehand are leaks or wrong clocks."""
    drift_index: float = Field(default=0.25, gt=0)
    """Population stability index of an input, from which it is held to be another input. Inputs that are declared to
    drift (weather over the seasons) are reported and not judged."""
    drift_false_alarms: float = Field(default=0.01, gt=0, lt=1)
    """How often chance alone may call some input drifted, if days can be exchanged; over all inputs of a run."""
