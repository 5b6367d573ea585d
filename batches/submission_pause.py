"""Decides how long a batch waits after a temporary refusal before it submits again."""

import random
import time

from core.errors import Overloaded, PipelineError, QueueFull

MAX_SECONDS = 30.0
#: For refusals that carry no Retry-After, such as an exceeded budget.
DEFAULT_SECONDS = 10.0


class SubmissionPause:
    """The time before which one batch submits nothing."""

    def __init__(self) -> None:
        self._until = 0.0
        self._queue_full = False

    @property
    def active(self) -> bool:
        """Whether the batch must still wait."""
        return time.monotonic() < self._until

    def extend(self, error: PipelineError) -> float:
        """Wait as long as a refusal asks for, less a random part; returns the seconds."""
        asked = error.retry_after_seconds if isinstance(error, Overloaded) else DEFAULT_SECONDS
        seconds = min(MAX_SECONDS, asked) * random.uniform(0.5, 1.0)
        self._until = max(self._until, time.monotonic() + seconds)
        self._queue_full = isinstance(error, QueueFull)
        return seconds

    def job_ended(self) -> None:
        """Stop waiting for a full queue: one of the batch's jobs has freed a place."""
        if self._queue_full:
            self._queue_full, self._until = False, 0.0
