"""Counts how many clients of this process watch each job; a long poll is not one of them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class JobWatchers:
    """How many clients of this process watch each job."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def watching(self, job_id: str) -> Iterator[None]:
        """Count one client for the length of a block."""
        self._counts[job_id] += 1
        try:
            yield
        finally:
            self._counts[job_id] -= 1
            if not self._counts[job_id]:
                del self._counts[job_id]

    def any(self, job_id: str) -> bool:
        """Return whether any client watches this job."""
        return job_id in self._counts
