"""The standard library of the language, as far as it gives the same result for the same arguments.

https://cloud.google.com/workflows/docs/reference/stdlib/overview; below it each function has a page of its own, such as
…/stdlib/text/url_decode, which tells the types it takes, its defaults and its errors. The parameters are called as they
are there, because ``args`` names them. What looks at the clock, the network or chance is in the interpreter, which
writes down what it got.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus
from zoneinfo import ZoneInfo

from laptop.workflows import regex
from laptop.workflows.errors import RaisedError, error
from laptop.workflows.expressions import text_of, type_name, within
from laptop.workflows.memory import string_size
from laptop.workflows.values import json_value

_INTEGER = re.compile(r"[-+]?[0-9]+")
_DOUBLE = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[-+]\d\d:\d\d)", re.ASCII)
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HASHES = {
    "MD5": "md5", "SHA1": "sha1", "SHA224": "sha224", "SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512",
}  # fmt: skip


def _need(kind: type | tuple[type, ...], name: str, function: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in (kind, *_kinds(kind))):
            raise error("TypeError", f"{function}: expected {name}, got {type_name(value)}")


def _kinds(kind: type | tuple[type, ...]) -> tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _texts(function: str, *values: Any) -> None:
    _need(str, "a string", function, *values)


# --- expression helpers


def _int(x: Any) -> int:
    if isinstance(x, str):
        if not _INTEGER.fullmatch(x):
            raise error("ValueError", f"int: {x!r} is no integer")
        return int(within(int(x)))
    _need((int, float), "a string or a number", "int", x)
    return int(within(int(x)))


def _double(x: Any) -> float:
    if isinstance(x, str):
        if not _DOUBLE.fullmatch(x):
            raise error("ValueError", f"double: {x!r} is no number")
        return float(x)
    _need((int, float), "a string or a number", "double", x)
    return float(x)


def _len(value: Any) -> int:
    _need((str, list, dict), "a string, a list or a map", "len", value)
    return len(value)


def _keys(map: Any) -> list[str]:
    _need(dict, "a map", "keys", map)
    return list(map)


def _if(condition: Any, ifTrue: Any, ifFalse: Any) -> Any:
    if condition is not None:
        _need(bool, "a boolean or null", "if", condition)
    return ifTrue if condition else ifFalse


# --- map, list


def _map_get(map: Any, keys: Any) -> Any:
    held = map
    for key in keys if isinstance(keys, list) else [keys]:
        _need(str, "a string or a list of strings as keys", "map.get", key)
        held = held.get(key) if isinstance(held, dict) else None
    return held


def _merge(first: Any, second: Any) -> dict[str, Any]:
    _need(dict, "two maps", "map.merge", first, second)
    return {**first, **second}


def _merge_nested(first: Any, second: Any) -> dict[str, Any]:
    _need(dict, "two maps", "map.merge_nested", first, second)
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge_nested(merged[key], value) if both else value
    return merged


def _without(map: Any, key: Any) -> dict[str, Any]:
    _need(dict, "a map", "map.delete", map)
    _texts("map.delete: key", key)
    return {name: value for name, value in map.items() if name != key}


def _concat(objs: Any, val: Any) -> list[Any]:
    _need(list, "a list", "list.concat", objs)
    return [*objs, val]


def _prepend(objs: Any, val: Any) -> list[Any]:
    _need(list, "a list", "list.prepend", objs)
    return [val, *objs]


# --- math


def _abs(x: Any) -> Any:
    _need((int, float), "a number", "math.abs", x)
    return within(abs(x))


def _floor(x: Any) -> int:
    _need((int, float), "a number", "math.floor", x)
    return int(within(int(x // 1)))


def _max(x: Any, y: Any) -> Any:
    _need((int, float), "two numbers", "math.max", x, y)
    return max(x, y)


def _min(x: Any, y: Any) -> Any:
    _need((int, float), "two numbers", "math.min", x, y)
    return min(x, y)


# --- text


def _split(source: Any, separator: Any) -> list[str]:
    _texts("text.split", source, separator)
    return source.split(separator) if separator else list(source)


def _substring(source: Any, start: Any, end: Any) -> str:
    _texts("text.substring", source)
    _need(int, "two integers", "text.substring", start, end)
    if not 0 <= start <= end <= len(source):
        raise error("IndexError", f"text.substring: {start} to {end} of {len(source)} characters")
    return str(source[start:end])


def _find_all(source: Any, substr: Any) -> list[int]:
    _texts("text.find_all", source, substr)
    return [match.start() for match in re.finditer(re.escape(substr), source)]


def _find_all_regex(source: Any, regexp: Any) -> list[dict[str, Any]]:
    _texts("text.find_all_regex", source, regexp)
    return [{"index": start, "match": source[start:end]} for start, end in regex.matches(source, regexp)]


def _match_regex(source: Any, regexp: Any) -> bool:
    _texts("text.match_regex", source, regexp)
    return regex.contains(source, regexp)


def _replace_all(source: Any, substr: Any, repl: Any) -> str:
    _texts("text.replace_all", source, substr, repl)
    found = source.count(substr)
    string_size(len(source.encode()) + found * (len(repl.encode()) - len(substr.encode())))
    return str(source.replace(substr, repl))


def _replace_all_regex(source: Any, regexp: Any, repl: Any) -> str:
    """``repl`` as it is: the page says that it cannot refer to a group of ``regexp``."""
    _texts("text.replace_all_regex", source, regexp, repl)
    parts: list[str] = []
    size = at = 0
    for start, end in regex.matches(source, regexp):
        parts += (source[at:start], repl)
        size = string_size(size + len(parts[-2].encode()) + len(repl.encode()))
        at = end
    return "".join((*parts, source[at:]))


def _to_lower(source: Any) -> str:
    _texts("text.to_lower", source)
    return str(source.lower())


def _to_upper(source: Any) -> str:
    _texts("text.to_upper", source)
    return str(source.upper())


def _url_encode(source: Any) -> str:
    _texts("text.url_encode", source)
    return quote(source, safe="")


def _url_encode_plus(source: Any) -> str:
    _texts("text.url_encode_plus", source)
    return quote_plus(source)


def _url_decode(source: Any) -> str:
    _texts("text.url_decode", source)
    if wrong := _NO_ESCAPE.search(source):
        raise error("ValueError", f"text.url_decode: no two hexadecimal digits after the % at {wrong.start()}")
    return unquote_plus(source, errors="strict")


def _encode(text: Any, charset: Any = "UTF-8") -> bytes:
    _texts("text.encode", text, charset)
    return bytes(text.encode(charset))


def _decode(data: Any, charset: Any = "UTF-8") -> str:
    """What the charset does not have becomes U+FFFD."""
    _need(bytes, "bytes", "text.decode", data)
    _texts("text.decode", charset)
    return str(data.decode(charset, errors="replace"))


# --- json, base64, hash


def _decode_json(data: Any) -> Any:
    _need((str, bytes), "a string or bytes", "json.decode", data)
    try:
        return json_value(data if isinstance(data, str) else _decode(data))
    except (ValueError, RecursionError) as cause:
        raise error("ValueError", f"json.decode: {cause}") from None


def _encode_json(data: Any, indent: Any = False) -> str:
    _need((bool, dict), "a boolean or a map", "json.encode: indent", indent)
    try:
        if indent is False:
            return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        options = {} if indent is True else indent
        unit, prefix = options.get("indent", "    "), options.get("prefix", "")
        _texts("json.encode: indent", unit, prefix)
        return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=unit).replace("\n", "\n" + prefix)
    except (TypeError, ValueError) as cause:
        raise error("ValueError", f"json.encode: {cause}") from None


def _encode_json_bytes(data: Any, indent: Any = False) -> bytes:
    return _encode_json(data, indent).encode()


def _b64_encode(data: Any, padding: Any = True) -> str:
    _need(bytes, "bytes", "base64.encode", data)
    _need(bool, "a boolean", "base64.encode: padding", padding)
    text = base64.b64encode(data).decode()
    return text if padding else text.rstrip("=")


def _b64_decode(data: Any, padding: Any = True) -> bytes:
    """Line ends are ignored."""
    _texts("base64.decode", data)
    _need(bool, "a boolean", "base64.decode: padding", padding)
    data = data.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(data if padding else data + "=" * (-len(data) % 4), validate=True)
    except binascii.Error as cause:
        raise error("ValueError", f"base64.decode: {cause}") from None


def _algorithm(algorithm: Any, function: str) -> str:
    _texts(function, algorithm)
    if algorithm not in _HASHES:
        raise error("ValueError", f"{function}: {algorithm!r} is none of {', '.join(_HASHES)}")
    return _HASHES[algorithm]


def _checksum(data: Any, algorithm: Any) -> bytes:
    _need(bytes, "bytes", "hash.compute_checksum", data)
    name = _algorithm(algorithm, "hash.compute_checksum")
    return hashlib.new(name, data, usedforsecurity=False).digest()


def _hmac(key: Any, data: Any, algorithm: Any) -> bytes:
    _need(bytes, "bytes", "hash.compute_hmac", key, data)
    name = _algorithm(algorithm, "hash.compute_hmac")
    return hmac.digest(key, data, name)


# --- time


def _format(seconds: Any, timezone: Any = "") -> str:
    _need((int, float), "a number", "time.format", seconds)
    _texts("time.format", timezone)
    moment = datetime.fromtimestamp(float(seconds), ZoneInfo(timezone or "UTC"))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _parse_time(value: Any) -> float:
    _texts("time.parse", value)
    if not _TIME.fullmatch(value):
        raise error("ValueError", f"time.parse: {value!r} is no time of RFC 3339")
    return datetime.fromisoformat(value.upper()).timestamp()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": _int,
    "double": _double,
    "string": text_of,
    "len": _len,
    "keys": _keys,
    "get_type": type_name,
    "if": _if,
    "default": lambda val, defaultVal: defaultVal if val is None else val,
    "map.get": _map_get,
    "map.merge": _merge,
    "map.merge_nested": _merge_nested,
    "map.delete": _without,
    "list.concat": _concat,
    "list.prepend": _prepend,
    "math.abs": _abs,
    "math.max": _max,
    "math.min": _min,
    "math.floor": _floor,
    "text.split": _split,
    "text.to_lower": _to_lower,
    "text.to_upper": _to_upper,
    "text.find_all": _find_all,
    "text.find_all_regex": _find_all_regex,
    "text.replace_all": _replace_all,
    "text.replace_all_regex": _replace_all_regex,
    "text.match_regex": _match_regex,
    "text.substring": _substring,
    "text.url_encode": _url_encode,
    "text.url_encode_plus": _url_encode_plus,
    "text.url_decode": _url_decode,
    "text.encode": _encode,
    "text.decode": _decode,
    "json.encode": _encode_json_bytes,
    "json.encode_to_string": _encode_json,
    "json.decode": _decode_json,
    "base64.encode": _b64_encode,
    "base64.decode": _b64_decode,
    "hash.compute_checksum": _checksum,
    "hash.compute_hmac": _hmac,
    "time.format": _format,
    "time.parse": _parse_time,
}
IN_THREAD = {"text.find_all_regex", "text.match_regex", "text.replace_all_regex"}
"""What may take so long that others should not wait for it."""
BLOCKING = {
    "http.get", "http.post", "http.put", "http.patch", "http.delete", "http.request", "sys.log", "sys.sleep",
    "sys.sleep_until",
}  # fmt: skip
"""https://cloud.google.com/workflows/docs/reference/syntax/expressions#blocking-calls: in a call step only."""
ELSEWHERE = {
    *BLOCKING, "sys.now", "sys.get_env", "uuid.generate", "http.default_retry_predicate",
    "http.default_retry_predicate_non_idempotent", "retry.always", "retry.never",
}  # fmt: skip
NAMES = {*FUNCTIONS, *ELSEWHERE}
"""Every function there is."""


def call(name: str, positional: list[Any], named: dict[str, Any]) -> Any:
    """The result of a function of this module.

    Raises:
        RaisedError: a TypeError of the language if the arguments do not fit, or what the function raises.
    """
    try:
        return FUNCTIONS[name](*positional, **named)
    except RaisedError:
        raise
    except (TypeError, AttributeError) as cause:
        raise error("TypeError", f"{name}: {str(cause).replace('<lambda>', name)}") from None
    except (ValueError, LookupError, ArithmeticError, OSError) as cause:
        raise error("ValueError", f"{name}: {cause}") from None
