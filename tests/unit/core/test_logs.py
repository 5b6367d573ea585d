"""Log lines: one JSON shape for all loggers, without local variables."""

import json
import logging
import sys
import threading

import pytest
import structlog

from core.logs import configure_logs
from core.settings.observability import LogSettings
from tests.support import logging_state


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
    configure_logs(LogSettings(format=form), "test")
    fail_with_a_prompt_at_hand(structlog.get_logger())
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "job_1" in shown
    assert "xyzzy-secret" not in shown


def test_foreign_loggers_have_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(), "test")
    thread = threading.Thread(
        target=logging.getLogger("foreign.package").warning, args=("hello %s", "there")
    )
    thread.start()
    thread.join()
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["process"]) == ("hello there", "warning", "test")


def test_debug_is_for_our_own_loggers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(level="DEBUG"), "test")
    logging.getLogger("jobs.store.job_store").debug("ours")
    for name in ("sqlalchemy.engine.Engine", "aiosqlite", "foreign.package", "kombu.connection"):
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


#: As every module of the application holds one.
module_logger = structlog.get_logger(__name__)


def test_what_one_test_configures_no_later_test_logs_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_state.kept():
        configure_logs(LogSettings(format="json"), "first")
        module_logger.info("said_by_the_first")
        logging.getLogger("jobs").setLevel("CRITICAL")
    capsys.readouterr()
    assert not structlog.is_configured()
    assert logging.getLogger("jobs").level == logging.NOTSET
    module_logger.info("said_by_the_second")
    shown = capsys.readouterr()
    assert "said_by_the_second" in shown.out
    assert not shown.err
