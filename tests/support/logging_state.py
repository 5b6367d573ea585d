"""Restores logging after a test, so that one test's configuration never affects another.

Invariant: after `kept()`, structlog, the standard library's loggers and the hooks for uncaught
errors are the earlier ones, and no module's logger caches the configuration in between.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

import structlog


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Restore logging at the end of the body."""
    before = structlog.get_config()
    was_configured = structlog.is_configured()
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = _levels()
    hooks = sys.excepthook, threading.excepthook
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = hooks
        structlog.contextvars.clear_contextvars()
        _restore_levels(levels)
        root.handlers[:] = handlers
        logging.captureWarnings(capture=False)
        after = structlog.get_config()
        if after != before:
            structlog.configure(**before)
        if structlog.is_configured() and not was_configured:
            structlog.reset_defaults()
        if after["cache_logger_on_first_use"]:
            _forget_assembled_loggers()


def _loggers() -> Iterator[tuple[str | None, logging.Logger]]:
    yield None, logging.getLogger()
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            yield name, logger


def _levels() -> dict[str | None, int]:
    return {name: logger.level for name, logger in _loggers()}


def _restore_levels(levels: dict[str | None, int]) -> None:
    for name, logger in _loggers():
        level = levels.get(name, logging.NOTSET)
        if logger.level != level:
            logger.setLevel(level)


def _forget_assembled_loggers() -> None:
    """Make modules' loggers read the configuration again: structlog caches it in each of them."""
    kind = type(structlog.get_logger())
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()):
            if type(value) is kind:
                vars(value).pop("bind", None)
