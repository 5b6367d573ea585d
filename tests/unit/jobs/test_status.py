"""The transitions between a job's statuses."""

from itertools import product

import pytest

from jobs.status import Status, may_follow


def test_terminal_statuses_never_change() -> None:
    for before, after in product(Status, Status):
        if before.is_terminal:
            assert not may_follow(before, after)


def test_only_queued_and_in_progress_are_not_terminal() -> None:
    assert {s for s in Status if not s.is_terminal} == {Status.QUEUED, Status.IN_PROGRESS}


@pytest.mark.parametrize("after", [Status.COMPLETED, Status.FAILED])
def test_a_job_that_never_ran_cannot_complete_or_fail(after: Status) -> None:
    assert not may_follow(Status.QUEUED, after)


def test_a_running_job_may_go_back_to_the_queue() -> None:
    assert may_follow(Status.IN_PROGRESS, Status.QUEUED)
