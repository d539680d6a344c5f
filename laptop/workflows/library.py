"""The standard library of the language, as far as it gives the same result for the same arguments.

https://cloud.google.com/workflows/docs/reference/stdlib/overview. What looks at the clock, the network or chance is in
the interpreter, which writes down what it got.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from laptop.workflows.errors import Raised, error
from laptop.workflows.expressions import is_number, type_name


def _int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise error("ValueError", f"int: {value!r} is no integer") from None
    if not is_number(value):
        raise error("TypeError", f"int does not take {type_name(value)}")
    return int(value)


def _double(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise error("ValueError", f"double: {value!r} is no number") from None
    if not is_number(value):
        raise error("TypeError", f"double does not take {type_name(value)}")
    return float(value)


def text_of(value: Any) -> str:
    """A value as ``string()`` writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or is_number(value):
        return "null" if value is None else repr(value)
    raise error("TypeError", f"string does not take {type_name(value)}")


def _len(value: Any) -> int:
    if not isinstance(value, (str, list, dict)):
        raise error("TypeError", f"len does not take {type_name(value)}")
    return len(value)


def _keys(value: Any) -> list[str]:
    if not isinstance(value, dict):
        raise error("TypeError", f"keys does not take {type_name(value)}")
    return list(value)


def _text(value: Any, function: str) -> str:
    if not isinstance(value, str):
        raise error("TypeError", f"{function}: expected a string, got {type_name(value)}")
    return value


def _map_get(held: Any, keys: Any) -> Any:
    for key in keys if isinstance(keys, list) else [keys]:
        if isinstance(held, dict) and isinstance(key, str):
            held = held.get(key)
        elif isinstance(held, list) and isinstance(key, int) and not isinstance(key, bool):
            held = held[key] if 0 <= key < len(held) else None
        else:
            return None
        if held is None:
            return None
    return held


def _merge(first: Any, second: Any) -> dict[str, Any]:
    if not isinstance(first, dict) or not isinstance(second, dict):
        raise error("TypeError", f"map.merge does not take {type_name(first)} and {type_name(second)}")
    return {**first, **second}


def _format(seconds: Any, timezone: Any = "UTC") -> str:
    if not is_number(seconds):
        raise error("TypeError", f"time.format does not take {type_name(seconds)}")
    moment = datetime.fromtimestamp(float(seconds), ZoneInfo(_text(timezone, "time.format")))
    shown = moment.isoformat(timespec="microseconds")
    return shown.replace("+00:00", "Z")


def _parse_time(value: Any) -> float:
    try:
        moment = datetime.fromisoformat(_text(value, "time.parse"))
    except ValueError:
        raise error("ValueError", f"time.parse: {value!r} is no time of RFC 3339") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _decode_json(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError) as cause:
        raise error("ValueError", f"json.decode: {cause}") from None


def _encode_json(value: Any, indent: Any = None) -> str:
    spaces = indent.get("indent") if isinstance(indent, dict) else None
    separators = None if spaces else (",", ":")
    return json.dumps(value, ensure_ascii=False, indent=spaces, separators=separators)


def _checksum(data: Any, algorithm: Any) -> bytes:
    names = {"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}
    if algorithm not in names:
        raise error("ValueError", f"hash.compute_checksum: {algorithm!r} is none of {', '.join(names)}")
    raw = data.encode() if isinstance(data, str) else data
    return hashlib.new(names[algorithm], raw, usedforsecurity=False).digest()


def _b64_decode(value: Any, padding: bool = True) -> bytes:
    try:
        return base64.b64decode(_text(value, "base64.decode") + ("" if padding else "=="))
    except ValueError as cause:
        raise error("ValueError", f"base64.decode: {cause}") from None


def _substring(value: Any, start: Any, end: Any) -> str:
    text = _text(value, "text.substring")
    if not (isinstance(start, int) and isinstance(end, int)) or not 0 <= start <= end <= len(text):
        raise error("IndexError", f"text.substring: {start} to {end} of {len(text)} characters")
    return text[start:end]


def _regex(pattern: Any) -> re.Pattern[str]:
    try:
        return re.compile(_text(pattern, "text"))
    except re.error as cause:
        raise error("ValueError", f"{pattern!r} is no regular expression: {cause}") from None


def _concat(items: Any, value: Any) -> list[Any]:
    if not isinstance(items, list):
        raise error("TypeError", f"list.concat does not take {type_name(items)}")
    return [*items, value]


def _to_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else _text(value, "base64.encode").encode()


def _without(held: Any, key: Any) -> dict[str, Any]:
    if not isinstance(held, dict):
        raise error("TypeError", f"map.delete does not take {type_name(held)}")
    return {name: value for name, value in held.items() if name != key}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": _int,
    "double": _double,
    "string": text_of,
    "len": _len,
    "keys": _keys,
    "get_type": type_name,
    "default": lambda value, otherwise: otherwise if value is None else value,
    "map.get": _map_get,
    "map.merge": _merge,
    "map.delete": _without,
    "list.concat": _concat,
    "list.prepend": lambda items, value: [value, *items],
    "math.abs": abs,
    "math.max": max,
    "math.min": min,
    "math.floor": lambda value: int(value // 1),
    "text.split": lambda source, separator: _text(source, "text.split").split(_text(separator, "text.split")),
    "text.to_lower": lambda source: _text(source, "text.to_lower").lower(),
    "text.to_upper": lambda source: _text(source, "text.to_upper").upper(),
    "text.replace_all": lambda source, substr, repl: _text(source, "text.replace_all").replace(substr, repl),
    "text.replace_all_regex": lambda source, pattern, repl: _regex(pattern).sub(repl, source),
    "text.match_regex": lambda source, regexp: _regex(regexp).search(_text(source, "text.match_regex")) is not None,
    "text.substring": _substring,
    "text.url_encode": lambda source: quote(_text(source, "text.url_encode"), safe=""),
    "text.url_decode": lambda source: unquote(_text(source, "text.url_decode")),
    "text.encode": lambda data, charset="UTF-8": _text(data, "text.encode").encode(charset),
    "text.decode": lambda data, charset="UTF-8": data.decode(charset),
    "json.encode": lambda data, indent=None: _encode_json(data, indent).encode(),
    "json.encode_to_string": _encode_json,
    "json.decode": _decode_json,
    "base64.encode": lambda data: base64.b64encode(_to_bytes(data)).decode(),
    "base64.decode": _b64_decode,
    "hash.compute_checksum": _checksum,
    "time.format": _format,
    "time.parse": _parse_time,
}
ELSEWHERE = {
    "sys.now", "sys.log", "sys.sleep", "sys.sleep_until", "sys.get_env", "uuid.generate", "http.get", "http.post",
    "http.put", "http.patch", "http.delete", "http.request", "http.default_retry_predicate",
    "http.default_retry_predicate_non_idempotent",
}  # fmt: skip
NAMES = {*FUNCTIONS, *ELSEWHERE}
"""Every function there is."""


def call(name: str, positional: list[Any], named: dict[str, Any]) -> Any:
    """The result of a function of this module.

    Raises:
        Raised: a TypeError of the language if the arguments do not fit, or what the function raises.
    """
    try:
        return FUNCTIONS[name](*positional, **named)
    except Raised:
        raise
    except (TypeError, AttributeError) as cause:
        raise error("TypeError", f"{name}: {cause}") from None
    except (ValueError, LookupError) as cause:
        raise error("ValueError", f"{name}: {cause}") from None
