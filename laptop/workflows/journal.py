"""How outcomes are written down: JSON, with bytes as a map of one reserved key."""

import json
from typing import Any

_BYTES = "\0bytes"


def encode(outcome: dict[str, Any]) -> str:
    """An outcome as text."""
    return json.dumps(_plain(outcome))


def decode(text: str) -> dict[str, Any]:
    """The outcome of a text that :func:`encode` made."""
    decoded: dict[str, Any] = json.loads(text, object_hook=_rich)
    return decoded


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        # A key of somebody's own that begins as ours do gets one more.
        return {"\0" + key if key.startswith("\0") else key: _plain(one) for key, one in value.items()}
    return value


def _rich(value: dict[str, Any]) -> Any:
    if value.keys() == {_BYTES}:
        return bytes.fromhex(value[_BYTES])
    return {key[1:] if key.startswith("\0") else key: one for key, one in value.items()}
