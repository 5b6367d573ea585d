"""The span of one client that follows a job: in the job's trace, linked to the client's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from core import tracing


@contextmanager
def delivering(job_id: str, traceparent: str | None, how: str) -> Iterator[None]:
    """Trace a delivery for the length of a block, where the job is traced."""
    context, tracer = tracing.joined(traceparent), tracing.active()
    if context is None or tracer is None:
        yield
        return
    span = tracer.begin(context)
    try:
        yield
    finally:
        here = tracing.request.get()
        own = here.span.context if here is not None and here.span is not None else None
        links = (own,) if own is not None and own.trace_id != context.trace_id else ()
        attributes = {"penstock.job.id": job_id, "penstock.delivery": how}
        span.end("deliver", attributes, links=links)
