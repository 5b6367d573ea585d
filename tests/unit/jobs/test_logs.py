import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from jobs.logs import configure_logs
from jobs.settings import LogSettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
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
    logging.getLogger("somebody.else").warning("hello %s", "there")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["process"]) == ("hello there", "warning", "test")
