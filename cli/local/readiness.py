"""How to see that a process is ready; each question is asked again and again until it is yes."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx2
from pydantic import SecretStr
from redis.exceptions import BusyLoadingError, RedisError

from cli.terminal.failures import Failure
from core.redis.client import connect
from core.settings.redis import RedisSettings

POLL_SECONDS = 0.1

Question = Callable[[], Awaitable[bool]]


async def wait_for(question: Question, seconds: float, what: str) -> None:
    """Wait until the answer is yes.

    Raises:
        Failure: it was not, in that time.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await question():  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise Failure(f"{what} was not ready after {seconds:.0f} s", "see .penstock/logs") from None


def redis_answers(settings: RedisSettings, url: str, reading: Callable[[], None]) -> Question:
    """Ask Redis; `reading` is called while it answers but still reads its data."""
    client_settings = settings.model_copy(update={"url": SecretStr(url)})

    async def ask() -> bool:
        client = connect(client_settings)
        try:
            await client.ping()
        except BusyLoadingError:
            reading()
            return False
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return True

    return ask


def http_ok(url: str) -> Question:
    """Ask a probe; anything but 200 means no."""

    async def ask() -> bool:
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:
                return (await client.get(url)).status_code == 200
        except httpx2.TransportError:
            return False

    return ask


def log_says(log: Path, event: str) -> Question:
    """Look into a log."""

    def look() -> bool:
        return log.exists() and event in log.read_text(errors="replace")

    return partial(asyncio.to_thread, look)
