"""The CLI's display of a job's progress."""

from typing import Any

import pytest

from cli.connect.api_client import Client, StreamEvent
from cli.connect.job_progress import JOB_COLUMNS, job_row, outcome, place, stream_text, text_of

JOB: dict[str, Any] = {
    "id": "job_1",
    "status": "in_progress",
    "model": "penstock-tiny",
    "created_at": 0,
    "queue_position": None,
    "eta": {"seconds": 1.26, "low": 0.0, "high": 2.5},
    "queue_seconds": 0.5,
    "run_seconds": None,
    "attempt": 2,
    "usage": {"input_tokens": 9, "cached_input_tokens": 4, "output_tokens": 7},
}


class FakeClient(Client):
    """Yields given events."""

    def __init__(self, *events: tuple[str, dict[str, Any]]) -> None:
        self._events = events

    def stream(self, path: str, after: int = 0) -> Any:
        del path, after
        for number, (kind, data) in enumerate(self._events, 1):
            yield StreamEvent(str(number), kind, data)


def test_place_tells_position_and_estimate_with_its_band() -> None:
    waiting = {**JOB, "status": "queued", "queue_position": 3}

    assert place(waiting) == "queued, position 3, done in about 1.3 s (0.0 to 2.5)"
    assert place({**JOB, "eta": None}) == "in progress"
    paused = {**waiting, "eta": None, "eta_note": "queue_paused"}
    assert place(paused) == "queued, position 3, the queue is paused"
    assert place({**JOB, "status": "completed"}) == "completed"


def test_outcome_tells_usage_times_and_attempt() -> None:
    done = {**JOB, "status": "completed", "run_seconds": 0.25}

    told = outcome(done)
    assert told.plain == (
        "completed · 9 tokens in (4 of them cached), 7 out · waited 0.50 s · ran 0.25 s · attempt 2"
    )
    assert [(span.start, span.end, span.style) for span in told.spans] == [(0, 9, "green")]


def test_row_fits_its_columns() -> None:
    assert len(job_row(JOB)) == len(JOB_COLUMNS)


def test_text_of_reads_chat_and_completion_results() -> None:
    chat = {"choices": [{"message": {"content": "a"}}, {"message": {"content": None}}]}
    completion = {"choices": [{"text": "b"}, {"text": "c"}]}

    assert text_of({"result": chat}) == "a"
    assert text_of({"result": completion}) == "b\nc"
    assert text_of({}) == ""


def test_stream_writes_deltas_as_they_come_and_returns_the_ending() -> None:
    client = FakeClient(
        ("started", {}),
        ("delta", {"index": 0, "text": "a"}),
        ("delta", {"index": 1, "text": "b"}),
        ("finished", {"status": "completed"}),
    )
    written: list[str] = []

    assert stream_text(client, "job_1", 0, written.append, pytest.fail) == "completed"
    assert written == ["a", "\n", "b"]


def test_stream_says_that_a_job_was_started_over() -> None:
    client = FakeClient(("restarted", {}), ("finished", {"status": "failed"}))
    said: list[str] = []

    assert stream_text(client, "job_1", 0, pytest.fail, said.append) == "failed"
    assert "restarted" in said[0]
