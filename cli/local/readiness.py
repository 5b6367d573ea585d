"""Asks whether a process is ready; each question is repeated until the answer is yes."""

import asyncio
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from redis.exceptions import BusyLoadingError, RedisError

from cli.terminal.failures import Failure
from core.redis.client import connect
from core.runtime.child_process import answers
from core.settings.redis import RedisSettings

POLL_SECONDS = 0.1

Question = Callable[[], Awaitable[bool]]


async def wait_for(question: Question, seconds: float, what: str) -> None:
    """Wait until the answer is yes.

    Raises:
        Failure: it was not yes within `seconds`; `what` names it.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await question():  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        setting = "WORKER_START_SECONDS" if what == "worker" else "START_SECONDS"
        raise Failure(
            f"{what} was not ready after {seconds:.0f} s",
            "see .penstock/logs",
            f"if it only needs longer: PENSTOCK_UP__{setting}",
        ) from None


def redis_answers(settings: RedisSettings, url: str, reading: Callable[[], None]) -> Question:
    """Ask Redis; `reading` is called while it answers but still loads its data."""
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


def probe_answers(url: str) -> Question:
    """Ask an HTTP probe of this machine; any answer but 200 means no."""

    async def ask() -> bool:
        return await asyncio.to_thread(answers, url)

    return ask
