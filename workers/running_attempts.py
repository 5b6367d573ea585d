"""The attempts that a worker runs now, found by job and by generation, each with its deadline.

Invariant: an attempt has a running timer exactly while it is in here.
"""

import asyncio
from collections.abc import Callable, Iterator

from workers.attempt import Attempt


class RunningAttempts:
    """A worker's running attempts. Use it from the event loop's thread only."""

    def __init__(self) -> None:
        self._by_job: dict[str, Attempt] = {}
        self._by_generation: dict[str, Attempt] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._by_job)

    def __iter__(self) -> Iterator[Attempt]:
        """Iterate over a copy, so that attempts may be added and removed meanwhile."""
        return iter(list(self._by_job.values()))

    def add(self, attempt: Attempt, on_deadline: Callable[[Attempt], None]) -> None:
        """Add an attempt and start the timer of its deadline.

        Args:
            attempt: The attempt; its job must not be running here.
            on_deadline: Called with it when its run deadline passes.
        """
        self._by_job[attempt.id] = attempt
        self._by_generation[attempt.generation.id] = attempt
        self._empty.clear()
        timer = asyncio.get_running_loop().call_later(
            max(0.0, attempt.seconds_left()), on_deadline, attempt
        )
        self._timers[attempt.id] = timer

    def remove(self, attempt: Attempt) -> None:
        """Remove an attempt and stop its timer."""
        self._by_job.pop(attempt.id, None)
        self._by_generation.pop(attempt.generation.id, None)
        timer = self._timers.pop(attempt.id, None)
        if timer is not None:
            timer.cancel()
        if not self._by_job:
            self._empty.set()

    def of_job(self, job_id: str) -> Attempt | None:
        """Return the attempt at a job; None if that job does not run here."""
        return self._by_job.get(job_id)

    def of_generation(self, generation_id: str) -> Attempt | None:
        """Return the attempt that a generation of the engine belongs to; None if it is gone."""
        return self._by_generation.get(generation_id)

    @property
    def all_begun(self) -> bool:
        """Whether every attempt gave output; True if there is none."""
        return all(attempt.begun for attempt in self._by_job.values())

    @property
    def closed(self) -> bool:
        """Whether a job runs beside which no other may be claimed now."""
        return any(attempt.needs_worker for attempt in self._by_job.values())

    async def wait_until_empty(self) -> None:
        """Return when no attempt is left."""
        await self._empty.wait()
