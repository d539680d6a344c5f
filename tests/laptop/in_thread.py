"""A laptop server in a thread of the test's own process, for tests that hand it a clock or a job runner of theirs."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from laptop.service import Api, Server


@contextmanager
def serving(build: Callable[[], Api], secret: str | None = None) -> Iterator[str]:
    """The address of a server of what ``build``, called on the server's own loop, answers.

    Args:
        build: makes the API.
        secret: what the server's own pages want.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Server:
        server = Server("test", build(), secret=secret)
        await server.start()
        return server

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield f"http://127.0.0.1:{server.http_port}"
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
