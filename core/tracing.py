"""Traces: one per job, from submit to bill. A span is made when it is over, never before.

So nothing is open when a process dies, and another can write down what a dead one was doing: an
attempt's span has an id that anybody can work out. Off, which is the default, no object is made;
on, spans leave on a thread of their own, and an exporter that is away costs spans, never jobs.
Invariant: no prompt and no output is ever an attribute.
"""

import hashlib
import random
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, NamedTuple

from core.settings.observability import TraceSettings

if TYPE_CHECKING:
    from core.span_exporter import SpanWriter

Kind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 1
MASK = (1 << 64) - 1


class Context(NamedTuple):
    """One span of a sampled trace, as other processes refer to it."""

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
        """Return the span of one attempt, which the sweeper and the next attempt know as well."""
        digest = hashlib.blake2b(f"{job_id}.{fence}".encode(), digest_size=8).digest()
        return Context(self.trace_id, int.from_bytes(digest, "big") or 1)


class Incoming(NamedTuple):
    """What a client said of its own trace."""

    context: Context
    sampled: bool


def new_span_id() -> int:
    """Return an id that no other span of the trace has."""
    return random.getrandbits(64) or 1


def parse(traceparent: str | None) -> Incoming | None:
    """Read the W3C header; None where it is missing or not one."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = Context(int(found[2], 16), int(found[3], 16))
    return Incoming(context, bool(int(found[4], 16) & SAMPLED)) if all(context) else None


class Span:
    """A span that has begun; nothing is kept of it until `end`."""

    __slots__ = ("_parent", "_tracer", "_writer", "began", "context")

    def __init__(self, writer: "SpanWriter", context: Context, parent: Context | None) -> None:
        self._writer = writer
        self._parent = parent
        self.context = context
        self.began = time.time_ns()

    def end(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: Kind = "internal",
        error: str = "",
        links: tuple[Context, ...] = (),
    ) -> None:
        """Write it down."""
        times = (self.began, time.time_ns())
        self._writer.write(
            name, self.context, self._parent, times, attributes, kind, error=error, links=links
        )


class Tracer:
    """What a process with tracing on uses."""

    def __init__(self, writer: "SpanWriter", ratio: float, *, join_clients: bool = True) -> None:
        self.writer = writer
        self.joins_clients = join_clients
        self._bound = int(ratio * (1 << 64))

    def root(self, incoming: Incoming | None) -> Span | None:
        """Begin the first span of ours; None when the trace is not sampled."""
        if incoming is not None:
            context = incoming.context
            return self.begin(context) if incoming.sampled else None
        trace_id = random.getrandbits(128) or 1
        if trace_id & MASK >= self._bound:
            return None
        return Span(self.writer, Context(trace_id, new_span_id()), None)

    def begin(self, parent: Context) -> Span:
        """Begin a span inside another."""
        return Span(self.writer, parent.child(), parent)


class RequestTrace:
    """One HTTP request's span, made only if something in the request asks for it."""

    __slots__ = ("_decided", "_incoming", "_tracer", "began", "span")

    def __init__(self, tracer: Tracer, traceparent: str | None) -> None:
        self._tracer = tracer
        self._incoming = parse(traceparent) if tracer.joins_clients else None
        self._decided = False
        self.began = time.time_ns()
        self.span: Span | None = None
        if self._incoming is not None:
            self.join()

    def join(self) -> Span | None:
        """Return the request's span; None when its trace is not sampled."""
        if not self._decided:
            self._decided = True
            self.span = self._tracer.root(self._incoming)
            if self.span is not None:
                self.span.began = self.began
        return self.span


#: The request that is being answered, where tracing is on.
request: ContextVar[RequestTrace | None] = ContextVar("request", default=None)

_active: Tracer | None = None


def configure_tracing(settings: TraceSettings, process: str) -> None:
    """Turn tracing on for this process if an endpoint is set; once, by its entry point."""
    global _active  # noqa: PLW0603 - one per process, like the root logger
    if not settings.endpoint:
        return
    # The SDK takes a tenth of a second to import: only whoever traces pays for it.
    from core.span_exporter import SpanWriter  # noqa: PLC0415

    writer = SpanWriter(settings, process)
    _active = Tracer(writer, settings.ratio, join_clients=settings.join_clients)


def active() -> Tracer | None:
    """Return the process's tracer; None while tracing is off."""
    return _active


def close_tracing() -> None:
    """Send what is left, in bounded time, and turn tracing off."""
    global _active
    tracer, _active = _active, None
    if tracer is not None:
        tracer.writer.close()


def begin_here() -> Span | None:
    """Begin a span in the request that is being answered, or a trace of its own outside of one."""
    if _active is None:
        return None
    here = request.get()
    if here is None:
        return _active.root(None)
    span = here.join()
    return None if span is None else _active.begin(span.context)


def joined(traceparent: str | None) -> Context | None:
    """Return the span a job was submitted in; None when tracing is off here or there."""
    if _active is None or not traceparent:
        return None
    found = parse(traceparent)
    return found.context if found is not None and found.sampled else None
