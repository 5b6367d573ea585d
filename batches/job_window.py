"""The requests of a batch whose jobs have not ended, bounded in number and in bytes."""

from typing import NamedTuple

from batches.result_lines import RequestRef

#: The lines of one batch's window; a line can be large.
WINDOW_BYTES = 8_000_000


class PendingJob(NamedTuple):
    """A request whose job has not ended as far as this process knows.

    `raw` is its line in the batch file.
    """

    ref: RequestRef
    job_id: str
    raw: bytes


class JobWindow:
    """The open jobs of one batch."""

    def __init__(self, limit: int) -> None:
        """Create an empty window for at most `limit` jobs."""
        self.jobs: dict[str, PendingJob] = {}
        self._limit = limit
        self._bytes = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self.jobs

    @property
    def has_room(self) -> bool:
        """Whether another job may be added."""
        return len(self.jobs) < self._limit and self._bytes < WINDOW_BYTES

    @property
    def free(self) -> int:
        """How many more jobs may be added."""
        return self._limit - len(self.jobs)

    def add(self, pending: PendingJob) -> None:
        """Add a job; nothing happens if it is in the window already."""
        if pending.job_id not in self.jobs:
            self.jobs[pending.job_id] = pending
            self._bytes += len(pending.raw)

    def remove(self, job_id: str) -> None:
        """Remove a job; nothing happens if it is not in the window."""
        pending = self.jobs.pop(job_id, None)
        if pending is not None:
            self._bytes -= len(pending.raw)
