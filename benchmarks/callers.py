"""Callers of ``POST /v1/classify`` in a process of their own, so that nothing but the function holds up an answer.

``python -m benchmarks.callers CALLERS PAUSE URL…`` prints a line of JSON for each answer until its standard input ends.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.functions.doubles import models


async def main(callers: int, pause: float, urls: Sequence[str]) -> None:
    """Ask each of ``urls`` by ``callers`` at once; each waits ``pause`` seconds between answer and question."""
    body = json.dumps([models.record("a"), models.record("b")]).encode()
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def call(number: int, url: str) -> None:
            while not ended.done():
                sys.stdout.write(json.dumps(await once(session, number, url, body)) + "\n")
                sys.stdout.flush()
                await asyncio.sleep(pause)

        async with asyncio.TaskGroup() as group:
            for number, url in enumerate(urls):
                for _ in range(callers):
                    group.create_task(call(number, url))


async def once(session: aiohttp.ClientSession, number: int, url: str, body: bytes) -> dict[str, Any]:
    """One request: the fields of ``benchmarks.switch.Answer``."""
    started = time.monotonic()
    answer: dict[str, Any] = {"instance": number, "started": started, "generation": None, "stale": False, "error": ""}
    try:
        async with session.post(f"{url}/v1/classify", data=body) as response:
            text = await response.text()
            answer["seconds"] = time.monotonic() - started
            if response.status == 200:
                given = json.loads(text)
                (answer["generation"],) = {one["generation"] for one in given}
                answer["stale"] = given[0]["stale"]
            else:
                answer["error"] = f"HTTP {response.status}: {text[:300]}"
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        answer |= {"seconds": time.monotonic() - started, "error": f"{type(error).__name__}: {error}"}
    return answer


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
