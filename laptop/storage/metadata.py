"""An object's metadata: what the server knows, and what a client may change."""

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from laptop.storage.errors import invalid

DEFAULTS = {"contentType": "application/octet-stream", "storageClass": "STANDARD"}
TEXTS = {
    "contentType", "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "customTime",
    "storageClass",
}  # fmt: skip
WRITABLE = TEXTS | {"metadata", "eventBasedHold", "temporaryHold"}


def new_document(bucket: str, name: str, generation: int, size: int, crc32c: str, md5: str) -> dict[str, Any]:
    """The metadata of an object that has just been made."""
    now = timestamp()
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "name": name,
        "bucket": bucket,
        "generation": str(generation),
        "metageneration": "1",
        **DEFAULTS,
        "size": str(size),
        "md5Hash": md5,
        "crc32c": crc32c,
        "etag": base64.b64encode(str(generation).encode()).decode(),
        "timeCreated": now,
        "updated": now,
        "timeStorageClassUpdated": now,
    }


def shown(document: dict[str, Any], host: str) -> dict[str, Any]:
    """The metadata as a client gets it: with links to the host that it has asked."""
    path = f"storage/v1/b/{document['bucket']}/o/{quote(document['name'], safe='')}"
    media = f"http://{host}/download/{path}?generation={document['generation']}&alt=media"
    return {**document, "selfLink": f"http://{host}/{path}", "mediaLink": media}


def change(document: dict[str, Any], changes: dict[str, Any], replace: bool = False) -> None:  # noqa: C901  # a branch for each kind of field
    """Change what a client may change; null clears a field.

    Args:
        document: is changed.
        changes: by field; others than :data:`WRITABLE` are the server's own, and left alone.
        replace: whether what is not in ``changes`` goes.

    Raises:
        HttpError: 400, a value of the wrong type.
    """
    for field, value in changes.items():
        if field in TEXTS and value is not None and (not isinstance(value, str) or not value.isprintable()):
            raise invalid(f"{field}: {value!r} is not a printable text")
        if field == "metadata" and value is not None and not _is_texts(value):
            raise invalid("metadata: must be an object of texts")
    if replace:
        for field in WRITABLE:
            document.pop(field, None)
    for field, value in changes.items():
        if field not in WRITABLE:
            continue
        if value is None or value == "":
            document.pop(field, None)
        elif field == "metadata":
            merged = {**document.get(field, {}), **value}
            document[field] = {key: one for key, one in merged.items() if one is not None}
        else:
            document[field] = value
    for field, default in DEFAULTS.items():
        document.setdefault(field, default)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(one is None or isinstance(one, str) for one in value.values())


def timestamp() -> str:
    """Now, as the API writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
