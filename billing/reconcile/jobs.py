"""Compares a finished job with its row in the ledger, field by field."""

from collections.abc import Sequence

from sqlalchemy import select

from billing.ledger.recording import usage_row
from billing.pricing.price_book import PriceBook
from billing.reconcile.findings import FindingKind, Findings
from billing.unix_time import from_unix_ms
from core.db.database import Database
from core.db.tables.base import table_of, typed_row
from core.db.tables.usage import UsageEventRow
from jobs.job import Job
from jobs.store.usage_outbox import UsageEntry

EVENTS = table_of(UsageEventRow)


async def ledger_rows(database: Database, job_ids: Sequence[str]) -> dict[str, UsageEventRow]:
    """Return the ledger's rows of these jobs, by job id."""
    async with database.read() as connection:
        found = await connection.execute(select(EVENTS).where(EVENTS.c.job_id.in_(job_ids)))
        rows = [typed_row(UsageEventRow, row) for row in found]
        return {row.job_id: row for row in rows}


def compare(job: Job, row: UsageEventRow, findings: Findings) -> None:
    """Note each field in which a finished job and its row differ."""
    expected: dict[str, tuple[object, object]] = {
        "account": (job.account, row.account_id),
        "model": (job.queue, row.model),
        "service_tier": (job.spec.service_tier.value, row.service_tier),
        "status": (job.status.value, row.status),
        "attempt": (job.attempt, row.attempt),
        "last_seq": (job.seq, row.last_seq),
        "input_tokens": (job.input_tokens, row.input_tokens),
        "cached_tokens": (job.cached_input_tokens, row.cached_tokens),
        "output_tokens": (job.output_tokens, row.output_tokens),
        "run_ms": (job.run_ms, row.run_ms),
        "created_at": (from_unix_ms(job.created), row.created_at),
        "started_at": (from_unix_ms(job.started) if job.started else None, row.started_at),
        "finished_at": (from_unix_ms(job.finished), row.finished_at),
    }
    if row.vectors is not None:  # null: as for `weights`
        expected["vectors"] = (job.vectors, row.vectors)
    if row.weights is not None:  # null: recorded by a version that did not know it
        expected["weights"] = (job.weights, row.weights)
    for field, (in_job, in_ledger) in expected.items():
        findings.differ(FindingKind.USAGE, job.id, field, in_job, in_ledger)


def compare_entry(job: Job, entry: UsageEntry, findings: Findings) -> None:
    """Note each field in which a finished job and the row of its outbox entry would differ."""
    try:
        row = usage_row(entry, PriceBook(), (), from_unix_ms(entry.finished))
    except (ValueError, OverflowError) as error:
        findings.add(FindingKind.SET_ASIDE, job.id, "outbox entry", "consistent usage", error)
    else:
        compare(job, UsageEventRow(**row), findings)


def not_recorded(job: Job, findings: Findings) -> None:
    """Note a finished job that is missing in the ledger."""
    expected = f"{job.status}, {job.input_tokens} input and {job.output_tokens} output tokens"
    findings.add(FindingKind.NOT_RECORDED, job.id, "ledger row", expected, None)
