"""A temporary refusal pauses a batch; a freed place in the queue ends only a full queue's pause."""

import pytest

from batches.submission_pause import DEFAULT_SECONDS, MAX_SECONDS, SubmissionPause
from core.errors import BudgetExceeded, Overloaded, PipelineError, QueueFull, StoreUnavailable


def refusal(kind: type[Overloaded], seconds: float) -> Overloaded:
    return kind("busy", retry_after_seconds=seconds)


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (refusal(QueueFull, 4), 4),
        (refusal(StoreUnavailable, 1_000), MAX_SECONDS),
        (BudgetExceeded("too dear", budget={}), DEFAULT_SECONDS),
    ],
)
def test_the_pause_follows_the_refusal_within_bounds(error: PipelineError, longest: float) -> None:
    pause = SubmissionPause()
    assert not pause.active
    assert longest / 2 <= pause.extend(error) <= longest
    assert pause.active


def test_the_pause_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("batches.submission_pause.time.monotonic", lambda: now)
    pause = SubmissionPause()
    pause.extend(refusal(StoreUnavailable, 4))
    assert pause.active
    now += 4
    assert not pause.active


def test_an_ended_job_ends_the_pause_of_a_full_queue_only() -> None:
    pause = SubmissionPause()
    pause.extend(refusal(QueueFull, 4))
    pause.job_ended()
    assert not pause.active
    pause.extend(refusal(StoreUnavailable, 4))
    pause.job_ended()
    assert pause.active


def test_a_shorter_refusal_does_not_shorten_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("batches.submission_pause.time.monotonic", lambda: now)
    pause = SubmissionPause()
    pause.extend(refusal(StoreUnavailable, 20))
    pause.extend(refusal(StoreUnavailable, 1))
    now += 5
    assert pause.active
