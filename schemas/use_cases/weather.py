"""Use case ``weather``: will it be wet at an airport within the next six hours?

Its drift is of another kind than that of flights: the seasons bring values that training has never seen, and take them
away again. ``datasets/weather.py`` reads real records.
"""

from typing import Any

from pydantic import Field

from schemas.features import Features

LABELS = ("dry", "wet")
AHEAD_HOURS = 6
VARIES: dict[str, Any] = {"drifts": True}
"""All but the airport: the seasons are the point of this use case."""


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


EXAMPLE: dict[str, Any] = {
    "airport": "EWR",
    "temp": 39.02,
    "dewp": 26.06,
    "humid": 59.37,
    "wind_dir": 270.0,
    "wind_speed": 10.357019999999999,
    "wind_gust": None,
    "pressure": 1012.0,
    "visib": 10.0,
    "precip": 0.0,
    "temp_change": None,
    "humid_change": None,
    "pressure_change": None,
    "visib_change": None,
    "wet_hours": 0,
}
"""The first hour of 2013 that was observed."""
