"""How long a call waits for a job or a batch to end."""

import time

from penstock.errors import WaitTimeoutError

#: The longest wait of one request; the server allows 60 s.
LONG_POLL_SECONDS = 30.0
#: The waits between two looks at a batch: first, last, and the factor between them.
POLL_SECONDS = (0.5, 10.0, 1.5)


class Deadline:
    """The end of a wait, if it has one."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._poll = POLL_SECONDS[0]

    def long_poll_seconds(self) -> float:
        """Return how long the next request may wait."""
        return round(self._at_most(LONG_POLL_SECONDS), 3)

    def poll_seconds(self) -> float:
        """Return the seconds until the next look, longer each time."""
        _, longest, factor = POLL_SECONDS
        now, self._poll = self._poll, min(longest, self._poll * factor)
        return self._at_most(now)

    def check(self, name: str, status: str) -> None:
        """Check that there is time left.

        Raises:
            WaitTimeoutError: There is none.
        """
        if self._end is not None and time.monotonic() >= self._end:
            raise WaitTimeoutError(f"{name} is {status} after {self._seconds:g} s; it continues")

    def _at_most(self, seconds: float) -> float:
        if self._end is None:
            return seconds
        return min(seconds, max(0.0, self._end - time.monotonic()))
