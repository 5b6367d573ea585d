"""One log format for our own and foreign loggers.

Invariant: the event is a constant snake_case phrase, ids are fields, and prompts and outputs are
never logged (sizes are). `log.level` applies to our own loggers. Loggers of drivers and servers
stay at INFO or above, because at DEBUG they quote the data that passes through them.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any, TextIO

import structlog

from core import tracing
from core.settings.observability import LogSettings

#: Our own packages; a module that runs by `python -m` is `__main__`.
OURS = (
    *("core", "jobs", "accounts", "billing", "migrations", "webhooks", "wire", "files", "intake"),
    *("batches", "api", "workers", "planning", "cli", "bench", "__main__"),
)
#: Too verbose at INFO: they log each request or statement, which we log ourselves or not at all.
QUIET = (
    *("celery", "kombu", "uvicorn.access", "sqlalchemy", "aiosqlite", "httpx2", "httpcore2"),
    *("opentelemetry", "urllib3", "asyncio", "vllm"),
)


def configure_logs(settings: LogSettings, process: str, stream: TextIO | None = None) -> None:
    """Set up structlog, the standard library's loggers and uncaught errors for one process.

    Args:
        settings: Level and format.
        process: The process, as each line names it.
        stream: Where lines are written; by default the standard error.
    """

    def add_process(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Not a context variable: other libraries' threads have none of ours."""
        event["process"] = process
        return event

    shared: list[structlog.typing.Processor] = [
        add_process,
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without local variables: those can hold prompts.
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr)]
        if settings.format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    _set_levels(settings.level)
    root = logging.getLogger()
    root.handlers = [handler]
    logging.captureWarnings(capture=True)
    sys.excepthook = _report
    threading.excepthook = _report_thread


def adopt_logger(name: str) -> None:
    """Remove the handlers of a library's logger, so that its records reach ours."""
    logger = logging.getLogger(name)
    logger.handlers = []
    logger.propagate = True


def _set_levels(level: str) -> None:
    ours = logging.getLevelNamesMapping()[level]
    logging.getLogger().setLevel(max(ours, logging.INFO))
    for name in OURS:
        logging.getLogger(name).setLevel(ours)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(ours, logging.WARNING))


def _add_trace(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add the trace id of the request under way."""
    trace_id = tracing.trace_here()
    if trace_id is not None:
        event.setdefault("trace_id", trace_id)
    return event


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log the error that ends the process, in the common format."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger("core.logs").critical("process_failed", exc_info=(kind, error, trace))


def _report_thread(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else ""
    error = args.exc_value
    structlog.get_logger("core.logs").critical("thread_failed", thread=name, exc_info=error)
