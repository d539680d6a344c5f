"""Reads a request's body, up to a limit."""

from starlette.requests import Request


class BodyTooLarge(ValueError):
    """The body is larger than what this service takes."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than ``limit`` bytes, by its header or, without one, as it comes in.
    """
    length = request.headers.get("content-length")
    if length is not None and length.isdecimal():
        if int(length) > limit:
            raise BodyTooLarge(f"the body has {length} bytes; the limit is {limit}")
        return await request.body()  # the server sees to it that no more comes than the header says
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes, which is the limit")
    return bytes(body)
