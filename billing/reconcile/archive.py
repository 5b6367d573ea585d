"""Compares what clients can still read of finished jobs in SQL with the ledger."""

from typing import Any

from sqlalchemy import Select, select

from billing.months import bounds
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import EVENTS, compare, not_recorded
from billing.unix_time import from_unix_ms
from core.db.engine import Database
from core.db.tables.base import table_of
from core.db.tables.usage import ArchivedJobRow
from jobs.archive.archived_job import ArchivedJob

JOBS = table_of(ArchivedJobRow)

#: Results can be long, and so many of them are held in memory.
ROWS_AT_ONCE = 100


async def compare_archive(database: Database, month: str, findings: Findings) -> None:
    """Look at every archived job that finished in a month; both sides come from one statement.

    A job and its row are written in one transaction, so a job without one was never on its way.
    """
    findings.count("archived jobs", 0)
    async with database.read() as connection:
        options = {"yield_per": ROWS_AT_ONCE}
        async for row in await connection.stream(_jobs(month), execution_options=options):
            _compare(row, findings)
            findings.count("archived jobs")


def _compare(row: Any, findings: Findings) -> None:
    archived = ArchivedJob(
        row.archived_id, row.archived_record.encode(), row.archived_result.encode()
    )
    job = archived.job()
    finished = from_unix_ms(job.finished)
    findings.differ(
        FindingKind.USAGE, job.id, "archived account", row.archived_account, job.account
    )
    findings.differ(FindingKind.USAGE, job.id, "archived end", row.archived_finished, finished)
    if row.job_id is None:
        not_recorded(job, findings)
    else:
        compare(job, row, findings)
        delivered = archived.outcome().output_tokens
        findings.differ(
            FindingKind.LOG, job.id, "archived output_tokens", row.output_tokens, delivered
        )


def _jobs(month: str) -> Select[Any]:
    job = JOBS.c
    since, until = bounds(month)
    return (
        select(
            job.job_id.label("archived_id"),
            job.account_id.label("archived_account"),
            job.finished_at.label("archived_finished"),
            job.record.label("archived_record"),
            job.result.label("archived_result"),
            *EVENTS.c,
        )
        .outerjoin_from(JOBS, EVENTS, EVENTS.c.job_id == job.job_id)
        .where(job.finished_at >= since, job.finished_at < until)
    )
