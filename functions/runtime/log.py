"""Log lines of a function; :mod:`telemetry.logs` implements them."""

from telemetry.logs import Severity, bind, log, note

__all__ = ["Severity", "bind", "log", "note"]
