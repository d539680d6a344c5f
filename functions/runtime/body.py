"""Reads a request's body, up to a limit."""

from starlette.requests import ClientDisconnect, Request


class BodyTooLarge(ValueError):
    """The body is larger than what this service takes."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Straight from the server's messages: Starlette's own way, a stream of chunks and a parsed copy of the headers,
    costs more than the validation and the model together.

    Raises:
        BodyTooLarge: more than ``limit`` bytes, by its header or, without one, as it comes in.
        ClientDisconnect: the caller has gone away before its body was complete.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            if value.isdigit() and int(value) > limit:
                raise BodyTooLarge(f"the body has {int(value)} bytes; the limit is {limit}")
            break
    receive = request.receive
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes, which is the limit")
        if not message.get("more_body", False):
            return b"".join(chunks) + chunk if chunks else chunk
        chunks.append(chunk)
