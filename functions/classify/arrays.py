"""The members of a JSON array of records, each held to the limit of a record."""

import msgspec
from pydantic_core import InitErrorDetails, ValidationError

from schemas.record import MAX_RECORD_BYTES

_MEMBERS = msgspec.json.Decoder(list[msgspec.Raw])


def check_sizes(body: bytes) -> None:
    """Check that no member of the array in ``body`` is larger than a record may be.

    Raises:
        pydantic.ValidationError: Names each member that is too large by its place, from 0; or says that ``body`` is no
            JSON.
    """
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _refusal([{"type": "json_invalid", "loc": (), "input": None, "ctx": {"error": str(error)}}]) from None
    too_large: list[InitErrorDetails] = []
    for place, member in enumerate(members):
        size = len(bytes(member))
        if size > MAX_RECORD_BYTES:
            why = f"the record has {size} bytes; the limit is {MAX_RECORD_BYTES}"
            too_large.append({"type": "value_error", "loc": (place,), "input": None, "ctx": {"error": why}})
    if too_large:
        raise _refusal(too_large)


def _refusal(faults: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("records", faults)
