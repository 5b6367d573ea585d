"""Runs a process on one event loop until SIGTERM or SIGINT.

Invariant: the work has ended, by itself or cancelled by the signal, before the resources that it
uses are closed.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from core.logs import configure_logs
from core.settings.tree import Settings, get_settings
from core.tracing import close_tracing, configure_tracing

Work = Coroutine[Any, Any, None]


def run_process(name: str, run: Callable[[Settings], Work]) -> None:
    """Entry point: run a process with the settings of the environment."""
    settings = get_settings()
    configure_logs(settings.log, name)
    configure_tracing(settings.trace, name)
    try:
        asyncio.run(run(settings))
    finally:
        close_tracing()


def run_until_signal(*work: Work) -> asyncio.Task[None]:
    """Run tasks until one fails; SIGTERM and SIGINT cancel them."""
    running = asyncio.create_task(_all(work))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    return running


async def _all(work: Iterable[Work]) -> None:
    """Run everything until one fails; unlike a gather, return only when all have ended.

    A second cancellation while a connection to SQLite is closing would leave it waiting for ever.
    """
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
