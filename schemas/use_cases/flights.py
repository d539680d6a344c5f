"""Use case ``flights``: will a scheduled flight arrive 15 minutes late or more?

A record is what an airline knows two hours before the scheduled departure, its publishing time. Whatever left, landed
or was observed later is not in it, the flight's own fate least of all. ``datasets/flights.py`` reads real records.
"""

from typing import Any

from pydantic import Field

from schemas.features import Features
from schemas.rate import Rate, Step

LABELS = ("on_time", "late")
VARIES: dict[str, Any] = {"drifts": True}
"""Weather and delays are never as they were: from one four weeks to the next the temperature's stability index is up
to 9, that of the schedule at most 0.07."""

RATES = (
    Rate("late_by_dest", by=("dest",)),
    Rate("late_by_hour", by=("origin", Step("sched_dep_minute", 60.0))),
    Rate("late_by_route", by=("carrier", "origin", "dest")),
)


class FlightFeatures(Features):
    """What is known of a flight two hours before it is to depart. Times of day are New York's, in minutes after
    midnight; delays are minutes, negative if early."""

    carrier: str = Field(min_length=1, max_length=8)
    origin: str = Field(min_length=1, max_length=8)
    dest: str = Field(min_length=1, max_length=8)
    sched_dep_minute: float = Field(ge=0, lt=1440)
    sched_arr_minute: float = Field(ge=0, le=1440)
    weekday: float = Field(ge=0, le=6)
    distance: float = Field(gt=0)
    """Miles."""
    plane_year: float | None = Field(default=None)
    plane_seats: float | None = Field(default=None)
    temp: float | None = Field(default=None, json_schema_extra=VARIES)
    """Degrees Fahrenheit at the origin, as last observed; so is the rest of the weather."""
    humid: float | None = Field(default=None, json_schema_extra=VARIES)
    wind_dir: float | None = Field(default=None, json_schema_extra=VARIES)
    wind_speed: float | None = Field(default=None, json_schema_extra=VARIES)
    precip: float | None = Field(default=None, json_schema_extra=VARIES)
    pressure: float | None = Field(default=None, json_schema_extra=VARIES)
    visib: float | None = Field(default=None, json_schema_extra=VARIES)
    city_departure_delay: float | None = Field(default=None, json_schema_extra=VARIES)
    """Mean of what left New York within the last hour."""
    carrier_departure_delay: float | None = Field(default=None, json_schema_extra=VARIES)
    """Mean of what this carrier got off from this airport within the last six hours."""
    city_arrival_delay: float | None = Field(default=None, json_schema_extra=VARIES)
    """Mean of what came from New York and landed anywhere within the last three hours."""
    dest_arrival_delay: float | None = Field(default=None, json_schema_extra=VARIES)
    """Mean of what came from New York and landed at this destination within the last six hours."""
    plane_departure_delay: float | None = Field(default=None, json_schema_extra=VARIES)
    """When the same aircraft last left New York."""
    plane_departure_hours: float | None = Field(default=None, ge=0, json_schema_extra=VARIES)
    """How long ago that was."""
    plane_arrival_delay: float | None = Field(default=None, json_schema_extra=VARIES)
    """When it last landed, coming from New York."""
    plane_arrival_hours: float | None = Field(default=None, ge=0, json_schema_extra=VARIES)
    """How long ago that was."""


EXAMPLE: dict[str, Any] = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "IAH",
    "sched_dep_minute": 315,
    "sched_arr_minute": 499,
    "weekday": 1,
    "distance": 1400.0,
    "plane_year": 1999.0,
    "plane_seats": 149.0,
    "temp": 39.02,
    "humid": 61.63,
    "wind_dir": 250.0,
    "wind_speed": 8.05546,
    "precip": 0.0,
    "pressure": 1012.3,
    "visib": 10.0,
    "city_departure_delay": None,
    "carrier_departure_delay": None,
    "city_arrival_delay": None,
    "dest_arrival_delay": None,
    "plane_departure_delay": None,
    "plane_departure_hours": None,
    "plane_arrival_delay": None,
    "plane_arrival_hours": None,
}
"""The first departure of 2013."""
