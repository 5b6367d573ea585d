"""The window of open jobs is bounded in number and in bytes."""

from batches.job_window import WINDOW_BYTES, JobWindow, PendingJob
from batches.result_lines import RequestRef


def pending(index: int, size: int = 1) -> PendingJob:
    return PendingJob(RequestRef(index, f"c{index}", f"r{index}"), f"job_{index}", b"x" * size)


def test_the_window_is_full_at_its_limit_and_has_room_after_a_removal() -> None:
    window = JobWindow(2)
    window.add(pending(0))
    assert (window.has_room, window.free) == (True, 1)
    window.add(pending(1))
    assert (window.has_room, window.free) == (False, 0)
    window.remove("job_0")
    assert window.has_room
    assert "job_0" not in window
    assert "job_1" in window


def test_large_lines_fill_the_window_before_its_limit() -> None:
    window = JobWindow(10)
    window.add(pending(0, WINDOW_BYTES))
    assert not window.has_room
    window.remove("job_0")
    assert window.has_room


def test_adding_or_removing_a_job_twice_counts_its_bytes_once() -> None:
    window = JobWindow(10)
    for _ in range(2):
        window.add(pending(0, WINDOW_BYTES // 2 + 1))
    assert window.has_room
    for _ in range(2):
        window.remove("job_0")
    window.add(pending(1, WINDOW_BYTES // 2 + 1))
    window.add(pending(2, WINDOW_BYTES // 2 + 1))
    assert not window.has_room
