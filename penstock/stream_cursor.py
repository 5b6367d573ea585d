"""Where the reader of a job's stream is: what to ask for, what to return, when to reconnect.

Invariant: the numbers of the returned events are consecutive, whatever breaks off, so that no
token is lost or repeated; a missing event is an error.
"""

import json
from collections.abc import Mapping

import httpx2

from penstock.api_objects import JobEvent
from penstock.errors import ApiError, EventsLostError, StreamBrokenError
from penstock.retries import LOST, REFUSALS, RetryPolicy, reason_of

#: Longest event: the prompt of a job with `echo` is one.
MAX_EVENT_BYTES = 64 * 1024 * 1024
#: The answer of a stream that has no event left.
NOTHING_LEFT = 204


class StreamInterruptedError(httpx2.TransportError):
    """The server ended the stream with the event `error`; the job continues."""


class StreamCursor:
    """Reads one job's events over any number of connections.

    Attributes:
        last: The number of the last event that was returned.
        ended: Whether the job's last event was read.
        completed: Whether that event says that the job has a result.
    """

    def __init__(self, job_id: str, after: int, policy: RetryPolicy) -> None:
        self.last = after
        self.ended = False
        self.completed = False
        self._job_id = job_id
        self._policy = policy
        self._failures = 0
        self._retry_seconds = 0.0

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the next connection."""
        return {"Last-Event-ID": str(self.last)} if self.last else {}

    def read(self, sent: httpx2.ServerSentEvent) -> JobEvent | None:
        """Return the event that was sent, or None if there is nothing to return.

        Raises:
            StreamInterruptedError: The server ends the stream, not the job.
            EventsLostError: Events after the last one are no longer kept.
        """
        if sent.retry is not None:
            self._retry_seconds = sent.retry / 1000
        if not sent.data:  # it only sets the time until a reconnect
            return None
        data = json.loads(sent.data)
        if sent.event == "error":
            raise StreamInterruptedError(str(data.get("detail") or data.get("title")))
        if sent.event == "replay_truncated":
            raise EventsLostError(self._job_id, data["first_available"])
        if sent.event == "done":
            self.ended = True
            return None
        return self._next(int(sent.id), sent.event, data)

    def nothing_left(self) -> None:
        """Note that the server has no event after the last one, and the job has ended."""
        self.ended = True

    def broken(self, error: httpx2.TransportError | None) -> float:
        """Return the seconds until the next connection, after one that broke off.

        Args:
            error: What happened; None if the stream ended before the job did.

        Raises:
            StreamBrokenError: There have been too many without an event.
        """
        reason = "it ended before the job did" if error is None else reason_of(error)
        return self._reconnect(reason, error, None)

    def refused(self, error: ApiError) -> float:
        """Return the seconds until the next connection, after the server refused one.

        Raises:
            ApiError: Another connection would not help.
            StreamBrokenError: There have been too many without an event.
        """
        if error.status not in REFUSALS | LOST or not self._policy.allows(error):
            raise error
        return self._reconnect(str(error), error, error.retry_after)

    def _next(self, number: int, kind: str, data: Mapping[str, object]) -> JobEvent | None:
        if number <= self.last:
            return None
        if number > self.last + 1:
            raise EventsLostError(self._job_id, number)
        self.last = number
        self._failures = 0
        if kind == "finished":
            self.ended = True
            self.completed = data["status"] == "completed"
        return JobEvent(number, kind, data)

    def _reconnect(self, reason: str, cause: Exception | None, after: float | None) -> float:
        if self._failures >= self._policy.max_reconnects:
            raise StreamBrokenError(self._job_id, self.last, reason) from cause
        self._failures += 1
        return self._policy.wait_seconds(self._failures, max(after or 0.0, self._retry_seconds))
