"""The interface of every streamed view: a job's events in, bytes for the client out."""

from collections.abc import Sequence
from typing import Protocol

from jobs.events import Event
from wire.error_bodies import Problem


class StreamView(Protocol):
    """Shows one job's log as a stream.

    Attributes:
        preamble: Bytes to send first, before any event has arrived.
        ping: Bytes to send when no event arrives for `stream.ping_seconds`.
        gets_grace: Whether the stream gets a grace period when the server shuts down, because the
            client cannot resume it.
        ended: True once the last event was shown; nothing may be sent after it.
    """

    preamble: bytes
    ping: bytes
    gets_grace: bool
    ended: bool

    def show(self, events: Sequence[Event]) -> bytes:
        """Encode a batch of events.

        Args:
            events: The next events of the log, in order and without gaps.

        Returns:
            Frames for the client; empty when the view shows none of these events.
        """
        ...

    def fail(self, problem: Problem) -> bytes:
        """Encode an error that ends the stream before the job does.

        Args:
            problem: Why the stream ends here.

        Returns:
            The frame that says so in this view's format.
        """
        ...
