"""How a process that runs on one event loop begins, and how it is told to end.

Invariant: what it runs has ended, of itself or cancelled by SIGTERM or SIGINT, before it lets go
of what that works with.
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
    """Run a process with the settings of the environment; its entry point."""
    settings = get_settings()
    configure_logs(settings.log, name)
    configure_tracing(settings.trace, name)
    try:
        asyncio.run(run(settings))
    finally:
        close_tracing()


def until_told(*work: Work) -> asyncio.Task[None]:
    """Begin work that ends when one of it fails; SIGTERM and SIGINT cancel it."""
    running = asyncio.create_task(_all(work))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    return running


async def _all(work: Iterable[Work]) -> None:
    """Run everything until one fails; unlike a gather, this ends when the last of them has.

    A second cancellation while a connection to SQLite is closing would leave it waiting for ever.
    """
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
