"""Traces one client that waits for a job: a span in the job's trace, linked to the client's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from core import tracing


@contextmanager
def client_span(job_id: str, traceparent: str | None, delivery: str) -> Iterator[None]:
    """Trace one client's wait for the length of a block, if the job is traced.

    Args:
        job_id: The job the client waits for.
        traceparent: The job's W3C trace context, or None if it is not traced.
        delivery: How the client gets the answer: `stream`, `whole` or `wait`.
    """
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
        attributes = {"penstock.job.id": job_id, "penstock.delivery": delivery}
        span.end("deliver", attributes, links=links)
