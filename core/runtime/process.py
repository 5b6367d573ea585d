"""Runs a process on one event loop until SIGTERM or SIGINT.

Invariant: the work has ended, by itself or cancelled by the signal, before the resources that it
uses are closed.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NoReturn

import structlog

from core.logs import configure_logs
from core.settings.invalid_settings import InvalidSettings
from core.settings.observability import LogSettings
from core.settings.tree import Settings, get_settings, log_format
from core.tracing import close_tracing, configure_tracing

Work = Coroutine[Any, Any, None]

#: The exit code of a process that does not start because a setting is wrong.
INVALID_SETTINGS = 2


def run_process(name: str, run: Callable[[Settings], Work]) -> None:
    """Entry point: run a process with the settings of the environment."""
    settings = read_settings(name)
    configure_tracing(settings.trace, name)
    try:
        asyncio.run(run(settings))
    finally:
        close_tracing()


def read_settings(name: str) -> Settings:
    """Return a process's settings and set up its logs; exit with 2 when a setting is wrong.

    Args:
        name: The process, as logs name it.

    Raises:
        SystemExit: a setting is wrong; one line for each is logged, which names the variable.
    """
    try:
        settings = get_settings()
    except InvalidSettings as error:
        configure_logs(LogSettings(format=log_format()), name)
        refuse_settings(error)
    configure_logs(settings.log, name)
    return settings


def refuse_settings(error: InvalidSettings) -> NoReturn:
    """Log a line for each wrong setting and exit with 2."""
    for line in error.lines:
        structlog.get_logger("core.runtime.process").critical("setting_invalid", detail=line)
    logging.shutdown()
    sys.exit(INVALID_SETTINGS)


def require_file(variable: str, path: Path | None) -> None:
    """Exit with 2 when a file that a setting names cannot be read; only its process needs it."""
    if path is None:
        return
    try:
        path.open("rb").close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        refuse_settings(InvalidSettings(f"{variable}: expected a file that can be read ({reason})"))


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
