"""Schedules in unix-cron form: when a job is due next.

https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules describes the form.
"""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from laptop.errors import invalid

FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_VALUE = r"(?:[0-9]+|[A-Za-z]{3})"
PART = re.compile(rf"(?:\*|{_VALUE}(?:-{_VALUE})?)(?:/[0-9]+)?")
"""What stands between commas. CronSim alone would also take seconds, ``L``, ``LW`` and ``#``."""


def next_time(schedule: str, time_zone: str, after: datetime) -> datetime:
    """The first time after ``after`` that ``schedule``, read in ``time_zone``, names; in UTC.

    Raises:
        ServiceError: INVALID_ARGUMENT: no time zone of that name, or no schedule in unix-cron form.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid(f"time_zone {time_zone!r} is no time zone, such as Etc/UTC or Europe/Berlin") from error
    fields = schedule.split()
    if schedule.startswith(("every ", "every\t")) or re.match(r"(\d+(st|nd|rd|th)|first|second|third) ", schedule):
        raise invalid(f"schedule {schedule!r} is in the English-like form: write unix-cron, {', '.join(FIELDS)}")
    if len(fields) != len(FIELDS):
        raise invalid(f"schedule {schedule!r} has {len(fields)} fields; unix-cron has five: {', '.join(FIELDS)}")
    for name, field in zip(FIELDS, fields, strict=True):
        for part in field.split(","):
            if not PART.fullmatch(part):
                raise invalid(f"schedule {schedule!r}: {part!r} is no {name} of unix-cron")
    try:
        following = next(CronSim(schedule, after.astimezone(zone).replace(microsecond=0)))
    except (CronSimError, StopIteration) as error:
        raise invalid(f"schedule {schedule!r} is no unix-cron expression: {error}") from error
    return following.astimezone(UTC)
