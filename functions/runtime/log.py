"""Log lines as Cloud Logging reads them: one JSON object a line, with ``severity`` and ``message``.

A payload never goes into a log line: ids, counts and reasons do.
"""

import sys
from typing import Any, Literal

import orjson

Severity = Literal["INFO", "WARNING", "ERROR"]


def log(severity: Severity, message: str, **fields: str | int | float | bool | None) -> None:
    """Write one line to standard output; ``fields`` become fields of the entry's ``jsonPayload``."""
    line: dict[str, Any] = {"severity": severity, "message": message, **fields}
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()
