"""The last span of a job's trace: its usage is in the ledger, and the outbox let go of it."""

from collections.abc import Iterable, Mapping

from core.spans import Attributes
from core.tracing import active, joined
from jobs.archive.archived_job import ArchivedJob
from jobs.store.usage_outbox import UsageEntry


def write_bills(
    recorded: Iterable[UsageEntry], archived: Mapping[str, ArchivedJob], times: tuple[int, int]
) -> None:
    """Write a span for each traced job of a batch; `times` are Unix nanoseconds."""
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
            own = context.child()
            tracer.writer.write("bill", own, context, times, attributes, "consumer")
