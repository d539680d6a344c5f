"""Log lines of a function; see :mod:`telemetry.logs`, where they are made."""

from telemetry.logs import Severity, bind, log, note

__all__ = ["Severity", "bind", "log", "note"]
