"""Compares archived jobs, which clients can still read, with the ledger."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, select

from billing.months import bounds
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import EVENTS, compare, not_recorded
from billing.unix_time import from_unix_ms
from core.db.database import Database
from core.db.tables.base import table_of, typed_row
from core.db.tables.usage import ArchivedJobRow, UsageEventRow
from jobs.archive.archived_job import ArchivedJob

JOBS = table_of(ArchivedJobRow)

#: Archived jobs held in memory at a time; a result can be long.
ROWS_AT_ONCE = 100


class _ArchivedRow(NamedTuple):
    """What the archive has of one job."""

    job_id: str
    account_id: str
    finished_at: datetime
    record: str
    result: str


async def compare_archive(database: Database, month: str, findings: Findings) -> None:
    """Compare every archived job that finished in a month; one statement reads both sides.

    A job and its usage event are written in one transaction, so a missing event is a finding.
    """
    findings.count("archived jobs", 0)
    async with database.read() as connection:
        options = {"yield_per": ROWS_AT_ONCE}
        async for row in await connection.stream(_jobs(month), execution_options=options):
            kept = _ArchivedRow(*row[: len(_ArchivedRow._fields)])
            event = None if row.job_id is None else typed_row(UsageEventRow, row)
            _compare(kept, event, findings)
            findings.count("archived jobs")


def _compare(kept: _ArchivedRow, event: UsageEventRow | None, findings: Findings) -> None:
    """Note where an archived job and its usage event differ, or that there is no event."""
    archived = ArchivedJob(kept.job_id, kept.record.encode(), kept.result.encode())
    job = archived.job()
    finished = from_unix_ms(job.finished)
    findings.differ(FindingKind.USAGE, job.id, "archived account", kept.account_id, job.account)
    findings.differ(FindingKind.USAGE, job.id, "archived end", kept.finished_at, finished)
    if event is None:
        not_recorded(job, findings)
    else:
        compare(job, event, findings)
        delivered = archived.outcome().output_tokens
        findings.differ(
            FindingKind.LOG, job.id, "archived output_tokens", event.output_tokens, delivered
        )


def _jobs(month: str) -> Select[Any]:
    job = JOBS.c
    since, until = bounds(month)
    return (
        select(
            *(job[name].label(f"archived_{name}") for name in _ArchivedRow._fields),
            *EVENTS.c,
        )
        .outerjoin_from(JOBS, EVENTS, EVENTS.c.job_id == job.job_id)
        .where(job.finished_at >= since, job.finished_at < until)
    )
