"""Writes the last span of a job's trace: its usage was recorded and acknowledged."""

from collections.abc import Iterable, Mapping

from core.spans import Attributes
from core.tracing import active, joined
from jobs.archive.archived_job import ArchivedJob
from jobs.store.usage_outbox import UsageEntry


def write_billing_spans(
    recorded: Iterable[UsageEntry], archived: Mapping[str, ArchivedJob], times: tuple[int, int]
) -> None:
    """Write a span for each traced job of a batch; `times` are its start and end in nanoseconds."""
    tracer = active()
    if tracer is None:
        return
    for entry in recorded:
        job = archived.get(entry.job_id)
        context = joined(job.traceparent) if job is not None else None
        if context is not None:
            attributes: Attributes = {
                "gen_ai.request.model": entry.model,
                "gen_ai.usage.input_tokens": entry.input_tokens,
                "gen_ai.usage.output_tokens": entry.output_tokens,
                "penstock.job.id": entry.job_id,
                "penstock.account": entry.account,
                "penstock.status": entry.status,
            }
            span = context.child()
            tracer.writer.write("bill", span, context, times, attributes, "consumer")
