import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from core.logs import OURS, QUIET, configure_logs
from core.settings.observability import LogSettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    levels = {name: logging.getLogger(name).level for name in (*OURS, *QUIET)}
    yield
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def fail_with_a_prompt_at_hand(logger: structlog.stdlib.BoundLogger) -> None:
    prompt = "xyzzy" + "-secret"
    try:
        int(f"no number of {len(prompt)} letters")
    except ValueError:
        logger.exception("attempt_failed", job_id="job_1")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(LogSettings(format=form), "test")  # type: ignore[arg-type]
    fail_with_a_prompt_at_hand(structlog.get_logger())
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "job_1" in shown
    assert "xyzzy-secret" not in shown


def test_foreign_loggers_have_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(), "test")
    thread = threading.Thread(
        target=logging.getLogger("somebody.else").warning, args=("hello %s", "there")
    )
    thread.start()
    thread.join()
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["process"]) == ("hello there", "warning", "test")


def test_debug_is_for_our_own_loggers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(level="DEBUG"), "test")
    logging.getLogger("jobs.store.job_store").debug("ours")
    for name in ("sqlalchemy.engine.Engine", "aiosqlite", "somebody.else", "kombu.connection"):
        logging.getLogger(name).debug("theirs, with a prompt in it")
    logging.getLogger("sqlalchemy.engine.Engine").info("INSERT, with a prompt in it")
    shown = capsys.readouterr().err
    assert "ours" in shown
    assert "prompt" not in shown


def test_warnings_and_uncaught_errors_have_the_same_shape(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(LogSettings(), "test")
    warnings = logging.getLogger("py.warnings")
    warnings.warning("careful")
    error = ValueError("broken")
    sys.excepthook(ValueError, error, None)
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["logger"]) == ("careful", "py.warnings")
    assert (second["event"], second["level"]) == ("process_failed", "critical")
    assert "ValueError: broken" in second["exception"]
