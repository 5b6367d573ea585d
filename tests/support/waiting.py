"""Waits for a condition instead of a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.support.machine import is_over

T = TypeVar("T")

POLL_SECONDS = 0.02


async def eventually(check: Callable[[], Awaitable[T]], timeout: float = 10.0) -> T:  # noqa: ASYNC109
    """Return the first truthy result of `check`; fail with its last one after `timeout`.

    `timeout` is in seconds of a quiet machine.
    """
    began = time.monotonic()
    while True:
        result = await check()
        if result:
            return result
        if is_over(began, timeout):
            raise AssertionError(f"not within {timeout} s; last result: {result!r}")
        await asyncio.sleep(POLL_SECONDS)
