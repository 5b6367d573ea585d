"""Traces: one per job, from submit to bill. A span is written when it has ended, never before.

So no span is open when a process dies, and another process can write the span of an attempt whose
worker died, because every process derives the same id for it. While tracing is off, which is the
default, no object is made. While it is on, spans leave on a thread of their own; an endpoint that
is away costs spans, never jobs.
"""

import random
import re
import time
from contextvars import ContextVar
from typing import NamedTuple

from core.settings.observability import TraceSettings
from core.spans import Attributes, Context, Kind, SpanSink, new_span_id

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 1
MASK = (1 << 64) - 1


class Incoming(NamedTuple):
    """The trace context that a client sent."""

    context: Context
    sampled: bool


def parse(traceparent: str | None) -> Incoming | None:
    """Read the W3C traceparent header; None when it is missing or malformed."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = Context(int(found[2], 16), int(found[3], 16))
    return Incoming(context, bool(int(found[4], 16) & SAMPLED)) if all(context) else None


class Span:
    """A span that has begun; it is written at `end` only."""

    __slots__ = ("_parent", "_tracer", "_writer", "began", "context")

    def __init__(self, writer: SpanSink, context: Context, parent: Context | None) -> None:
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
        """Write the span, with the present time as its end."""
        times = (self.began, time.time_ns())
        self._writer.write(
            name, self.context, self._parent, times, attributes, kind, error=error, links=links
        )


class Tracer:
    """Begins spans in a process with tracing on."""

    def __init__(self, writer: SpanSink, ratio: float, *, join_clients: bool = True) -> None:
        self.writer = writer
        self.joins_clients = join_clients
        self._bound = int(ratio * (1 << 64))

    def root(self, incoming: Incoming | None) -> Span | None:
        """Begin the first span of this system; None when the trace is not sampled."""
        if incoming is not None:
            context = incoming.context
            return self.begin(context) if incoming.sampled else None
        trace_id = random.getrandbits(128) or 1
        if trace_id & MASK >= self._bound:
            return None
        return Span(self.writer, Context(trace_id, new_span_id()), None)

    def begin(self, parent: Context) -> Span:
        """Begin a span inside another one."""
        return Span(self.writer, parent.child(), parent)


class RequestTrace:
    """The span of one HTTP request, made only if the request joins a trace or submits a job."""

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


#: The request under way, while tracing is on.
request: ContextVar[RequestTrace | None] = ContextVar("request", default=None)

_active: Tracer | None = None


def configure_tracing(settings: TraceSettings, process: str) -> None:
    """Turn tracing on for this process if an endpoint is set; once, by its entry point."""
    global _active  # noqa: PLW0603 - one per process, like the root logger
    if not settings.endpoint:
        return
    # The SDK takes a tenth of a second to import, which only processes with tracing should pay.
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


def trace_here() -> str | None:
    """Return the trace id of the request under way; None if it is not traced."""
    here = request.get()
    return here.span.context.trace if here is not None and here.span is not None else None


def begin_here() -> Span | None:
    """Begin a span in the request under way; outside of a request, a new trace."""
    if _active is None:
        return None
    here = request.get()
    if here is None:
        return _active.root(None)
    span = here.join()
    return None if span is None else _active.begin(span.context)


def joined(traceparent: str | None) -> Context | None:
    """Return the span that a job was submitted in; None when tracing is off here or there."""
    if _active is None or not traceparent:
        return None
    found = parse(traceparent)
    return found.context if found is not None and found.sampled else None
