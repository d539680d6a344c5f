"""Field masks: what a partial answer (``fields``) and a change (``updateMask``) may name."""

from collections.abc import Iterator

from rehearsal.documents import Document, Schema
from rehearsal.values import property_of, resolved, set_by_service

Path = tuple[str, ...]


def selected(document: Document, schema: Schema, fields: str, where: str) -> Iterator[str]:
    """What is wrong with a ``fields`` parameter, whose answer is of ``schema``.

    A path that the answer's message has not is refused: ``Error expanding 'fields' parameter. Cannot find matching
    fields for path '…'`` (recorded by https://github.com/r-lib/gargle/blob/main/tests/testthat/_snaps/response_process.md).
    """
    try:
        paths = list(_selection(fields))
    except ValueError as error:
        yield f"{where}: {error}"
        return
    for path in paths:
        wrong = _walk(document, schema, path, lists=True)
        if wrong:
            yield f"{where}: cannot find matching fields for path '{'.'.join(path)}': {wrong}"


def changed(document: Document, schema: Schema, mask: str, where: str) -> Iterator[str]:
    """What is wrong with a mask that says which fields of a resource are changed.

    A path to what cannot exist is refused (https://google.aip.dev/161), and a list may only be at its end
    (https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/field_mask.proto).
    """
    for text in mask.split(",") if mask else ():  # none: all that is filled
        wrong = _walk(document, schema, tuple(text.split(".")), lists=False)
        if wrong:
            yield f"{where}: path '{text}': {wrong}"


def _walk(document: Document, schema: Schema, path: Path, *, lists: bool) -> str | None:  # noqa: C901  # a branch for each type in a document
    """Why ``path`` leads nowhere; None if it leads somewhere."""
    schema = resolved(document, schema)
    if not path:
        return None
    kind = schema.get("type", "any")
    if kind == "array":
        if lists:
            return _walk(document, schema["items"], path, lists=lists)
        if path[0] != "*":
            return f"{path[0]} is inside a list, and a mask names a list as a whole"
        return _walk(document, schema["items"], path[1:], lists=lists)
    if kind == "any":
        return f"{path[0]} is inside a free-form value, whose fields no message declares"
    if kind != "object":
        return f"{path[0]} is inside a {kind}"
    if path[0] == "*":
        return None
    declared = property_of(document, schema, path[0])
    if declared is not None:
        if not lists and set_by_service(declared):
            return f"{path[0]} is read-only"
        return _walk(document, declared, path[1:], lists=lists)
    values = schema.get("additionalProperties")
    if values is None:
        return f"{schema.get('id', 'the object')} has no field {path[0]}"
    if resolved(document, values).get("type") == "any":
        # google.protobuf.Any and Struct: a mask is checked against the fields that a message declares, and what an Any
        # holds is not known by then. No document and no thread shows such a selection that works.
        return f"{path[0]} is inside a free-form object, whose fields no message declares"
    return _walk(document, values, path[1:], lists=lists)


def _selection(fields: str, before: Path = ()) -> Iterator[Path]:
    """The paths of ``a,b/c,d(e,f.g)``.

    Raises:
        ValueError: it is not of this form.
    """
    for part in _parts(fields):
        head, opened, inner = part.partition("(")
        names = tuple(head.replace("/", ".").split("."))
        if not all(names) or (opened and not inner.endswith(")")) or ")" in head:
            raise ValueError(f"cannot read {part!r}")
        if opened:
            yield from _selection(inner[:-1], before + names)
        else:
            yield before + names


def _parts(fields: str) -> Iterator[str]:
    depth = start = 0
    for index, character in enumerate(fields):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield fields[start:index].strip()
            start = index + 1
    yield fields[start:].strip()
