"""From the text of a JSON document to values of the language."""

import json
import math
import re
from typing import Any

from laptop.workflows.expressions import MAX_INTEGER

_HALF = re.compile("[\ud800-\udfff]")


def json_value(text: str) -> Any:
    """The value of a JSON document.

    The language has integers of 64 bits, doubles and text in UTF-8
    (https://cloud.google.com/workflows/docs/reference/syntax/datatypes), so a longer integer is a double, and half a
    surrogate pair is U+FFFD.

    Raises:
        ValueError: it is no JSON; NaN, Infinity and a number that no double holds are none.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_double)
    return _whole(value) if "\\ud" in text.lower() else value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int | float:
    if len(digits) > 20:
        return _double(digits)
    value = int(digits)
    return value if -MAX_INTEGER - 1 <= value <= MAX_INTEGER else float(value)


def _double(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is larger than a double")
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return value
