"""Compares what clients can still read of finished jobs in SQL with the ledger."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from billing.database import Database
from billing.months import bounds
from billing.reconcile.findings import Findings, Kind
from billing.reconcile.jobs import EVENTS, compare, not_recorded
from billing.tables.base import table_of
from billing.tables.usage import ArchivedJob
from jobs.archive import Archived

JOBS = table_of(ArchivedJob)

#: Results can be long, and a page of them is held in memory.
PAGE_JOBS = 200


async def compare_archive(database: Database, month: str, findings: Findings) -> None:
    """Look at every archived job that finished in a month; both sides come from one statement.

    A job and its row are written in one transaction, so a job without one was never on its way.
    """
    after = ""
    while page := await _page(database, month, after):
        for row in page:
            archived = Archived(
                row.archived_id, row.archived_record.encode(), row.archived_result.encode()
            )
            job = archived.job()
            findings.differ(
                Kind.USAGE, job.id, "archived account", row.archived_account, job.account
            )
            if row.job_id is None:
                not_recorded(job, findings)
            else:
                compare(job, archived.outcome().output_tokens, row, findings)
        findings.count("archived jobs", len(page))
        after = page[-1].archived_id
    findings.count("archived jobs", 0)


async def _page(database: Database, month: str, after: str) -> Sequence[Any]:
    since, until = bounds(month)
    query = (
        select(
            JOBS.c.job_id.label("archived_id"),
            JOBS.c.account_id.label("archived_account"),
            JOBS.c.record.label("archived_record"),
            JOBS.c.result.label("archived_result"),
            *EVENTS.c,
        )
        .outerjoin_from(JOBS, EVENTS, EVENTS.c.job_id == JOBS.c.job_id)
        .where(JOBS.c.job_id > after, JOBS.c.finished_at >= since, JOBS.c.finished_at < until)
        .order_by(JOBS.c.job_id)
        .limit(PAGE_JOBS)
    )
    async with database.read() as connection:
        return (await connection.execute(query)).all()
