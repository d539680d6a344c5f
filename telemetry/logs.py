"""Log lines as Cloud Logging reads them: one JSON object a line, tied to the request that they belong to.

A payload never goes into a log line: ids, counts and reasons do.
https://cloud.google.com/logging/docs/structured-logging
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Literal, TextIO

Severity = Literal["INFO", "WARNING", "ERROR"]
Value = str | int | float | bool | None
Headers = Iterable[tuple[bytes, bytes]]

# https://www.w3.org/TR/trace-context/#traceparent-header-field-values, and Google's older form of the same.
_W3C = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_GOOGLE = re.compile(rb"([0-9a-f]{32})/([0-9]{1,20})(?:;o=([0-9]))?")

_project = ""
_always: dict[str, Value] = {}
_headers: ContextVar[Headers] = ContextVar("headers", default=())
_noted: ContextVar[dict[str, Value]] = ContextVar("noted", default={})  # noqa: B039 - never changed, always replaced


def configure(project: str, **always: Value) -> None:
    """Say once, at the start, where this runs.

    Args:
        project: the project that traces belong to.
        always: fields of every line, such as the unit's name.
    """
    global _project, _always
    _project, _always = project, always


def bind(headers: Headers) -> None:
    """Tie the lines of the running request to its trace. ``headers`` are only looked at when a line is written."""
    _headers.set(headers)
    _noted.set({})


def note(**fields: Value) -> None:
    """Fields of every further line of the running request, such as its ``record_id``."""
    _noted.set({**_noted.get(), **fields})


def log(severity: Severity, message: str, **fields: Value) -> None:
    """Write one line to standard output; ``fields`` become fields of the entry's ``jsonPayload``."""
    write(sys.stdout, severity, message, fields)


def write(stream: TextIO, severity: str, message: str, fields: dict[str, Value]) -> None:
    """Write one line to ``stream``."""
    line = {"severity": severity, "message": message, **_always, **_noted.get(), **fields, **_trace()}
    stream.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    stream.flush()


class Formatter(logging.Formatter):
    """The same form for what Python's own ``logging`` is told, by us or by a library."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; a stack, if there is one, in a field of its own."""
        line: dict[str, Value] = {
            "severity": "WARNING" if record.levelname == "WARN" else record.levelname,
            "message": record.getMessage(),
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "logger": record.name,
            **_always,
            **_noted.get(),
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def use_for_logging(level: int = logging.INFO) -> None:
    """Let Python's ``logging`` write such lines, to the error stream."""
    import time

    handler = logging.StreamHandler()
    formatter = Formatter()
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _trace() -> dict[str, Value]:
    for name, value in _headers.get():
        if name == b"traceparent" and (found := _W3C.fullmatch(value)):
            trace, span, flags = (part.decode() for part in found.groups())
            return _fields(trace, span, bool(int(flags, 16) & 1))
        if name == b"x-cloud-trace-context" and (found := _GOOGLE.fullmatch(value)):
            return _fields(found[1].decode(), f"{int(found[2]):016x}", found[3] == b"1")
    return {}


def _fields(trace: str, span: str, sampled: bool) -> dict[str, Value]:
    return {
        "logging.googleapis.com/trace": f"projects/{_project}/traces/{trace}",
        "logging.googleapis.com/spanId": span,
        "logging.googleapis.com/trace_sampled": sampled,
    }
