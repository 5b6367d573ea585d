"""Spans as values: the ids of a span, its attributes, and the interface of what writes it.

Invariant: no prompt and no output is ever an attribute.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

Kind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]


def new_span_id() -> int:
    """Return an id that no other span of the trace has."""
    return random.getrandbits(64) or 1


class Context(NamedTuple):
    """The ids of one span of a sampled trace, as other processes refer to it."""

    trace_id: int
    span_id: int

    @property
    def trace(self) -> str:
        """The trace's id as logs and exemplars show it."""
        return f"{self.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """The W3C header, sampled."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"

    def child(self) -> "Context":
        """Return a new span of the same trace."""
        return Context(self.trace_id, new_span_id())

    def attempt(self, job_id: str, fence: int) -> "Context":
        """Return the span of one attempt. Every process derives the same id from job and fence."""
        digest = hashlib.blake2b(f"{job_id}.{fence}".encode(), digest_size=8).digest()
        return Context(self.trace_id, int.from_bytes(digest, "big") or 1)


class SpanSink(Protocol):
    """Where finished spans go."""

    def write(
        self,
        name: str,
        context: Context,
        parent: Context | None,
        times: tuple[int, int],
        attributes: Attributes,
        kind: Kind = "internal",
        *,
        error: str = "",
        links: Sequence[Context] = (),
    ) -> None:
        """Take a finished span without waiting.

        Args:
            name: What was done.
            context: The span's own ids.
            parent: The span that caused it, if any.
            times: Begin and end in Unix nanoseconds.
            attributes: Facts about it.
            kind: Its role in a call between processes.
            error: The code of an error, empty without one.
            links: Related spans that did not cause it.
        """

    def close(self) -> None:
        """Send what is left, in bounded time."""
