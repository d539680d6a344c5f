"""Use case ``parcels``: will a parcel be late? It has what the shipped use cases have not: whole numbers, a boolean,
a default that is not None, bounds on all of them. Invented, and the same on every machine."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import Field

from datasets import DataSet, Document, Example
from schemas import UseCase
from schemas.features import Features

LABELS = ("in_time", "late")
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 365
A_DAY = 48
DEPOTS = {"LYS1": -0.8, "MRS2": 0.0, "CDG3": 0.5, "BOD4": 1.2}


class ParcelFeatures(Features):
    """What is known of a parcel when it is handed in."""

    depot: str = Field(min_length=1, max_length=16)
    weight: float = Field(gt=0)
    """Kilograms."""
    items: int = Field(ge=0, le=500)
    express: bool
    insured: float = 0.0
    promised_hours: float | None = Field(default=None, ge=0)
    attempts: int | None = Field(default=None, ge=0)


def history(until: datetime | None = None) -> Iterator[Example]:
    """A year of parcels in order of time, a parcel each half hour; one of twenty is never heard of again.

    Whole numbers are written as 3 and as 3.0; what may be left out is sometimes left out, and sometimes null.

    Args:
        until: leave out what is handed in at that time or later.
    """
    draw = random.Random(20250101)
    for number in range(DAYS * A_DAY):
        when = FIRST + timedelta(days=1) / A_DAY * number
        if until is not None and when >= until:
            return
        yield _parcel(draw, number, when)


def _parcel(draw: random.Random, number: int, when: datetime) -> Example:
    depot = draw.choice(list(DEPOTS))
    weight = round(draw.lognormvariate(0.5, 0.8), 2) + 0.01
    items, express = min(int(draw.expovariate(0.2)), 500), draw.random() < 0.3
    insured, promised = draw.choice([0.0, 0.0, 50.0, 200.0]), draw.choice([24.0, 48.0, 72.0, None])
    attempts = draw.choice([0, 1, 2, None])
    odds = DEPOTS[depot] + 0.3 * weight + 0.06 * items - 1.6 * express + 0.004 * insured + 0.5 * (attempts or 0) - 1.6
    odds -= 0.015 * ((promised or 48.0) - 48.0)
    features: Document = {"depot": depot, "weight": weight, "items": items, "express": express}
    if draw.random() < 0.5:
        features["items"] = float(items)
    features |= {"insured": insured} if insured or draw.random() < 0.3 else {}
    features |= {"promised_hours": promised} if promised is not None or draw.random() < 0.5 else {}
    features |= {"attempts": attempts} if attempts is not None or draw.random() < 0.5 else {}
    record_id = f"parcel-{number:05d}"
    known = when + timedelta(hours=draw.uniform(18, 40))
    label = LABELS[draw.random() < 1 / (1 + 2.718281828 ** (-1.6 * odds))]
    record = {"record_id": record_id, "event_time": _text(when), "features": features}
    if draw.random() < 0.05:
        return record, None
    return record, {"record_id": record_id, "event_time": _text(known), "label": label}


def _text(when: datetime) -> str:
    return when.replace(microsecond=0).isoformat().replace("+00:00", "Z")


EXAMPLE = {"depot": "LYS1", "weight": 2.4, "items": 3, "express": False}
PARCELS = UseCase(name="parcels", features=ParcelFeatures, labels=LABELS, example_features=EXAMPLE)
"""What would be its row in the table of use cases."""
PARCELS_DATA = DataSet("parcels", history)
"""What would be its row in the table of data sets."""
