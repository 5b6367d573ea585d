"""Finished jobs in SQL, for reads after Redis has dropped them.

Invariant: a job that a client erases is deleted here, too; its usage stays in the ledger.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.usage import ArchivedJobRow
from jobs.archive.archived_job import ArchivedJob

JOBS = table_of(ArchivedJobRow)


async def archived_job(database: Database, job_id: str, account: str | None) -> ArchivedJob | None:
    """Return an archived job of this account, or of any when None; None if there is none."""
    query = select(JOBS.c.record, JOBS.c.result).where(JOBS.c.job_id == job_id)
    if account is not None:
        query = query.where(JOBS.c.account_id == account)
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    return None if row is None else ArchivedJob(job_id, row.record.encode(), row.result.encode())


async def archived_jobs(
    database: Database, job_ids: Sequence[str], account: str
) -> dict[str, ArchivedJob]:
    """Return those jobs of an account that are in the archive."""
    query = select(JOBS.c.job_id, JOBS.c.record, JOBS.c.result).where(
        JOBS.c.job_id.in_(job_ids), JOBS.c.account_id == account
    )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return {
        row.job_id: ArchivedJob(row.job_id, row.record.encode(), row.result.encode())
        for row in rows
    }


async def erase_archived(
    database: Database, job_ids: Sequence[str], account: str | None = None
) -> int:
    """Delete jobs, only of this account if one is given; returns how many existed."""
    change = delete(JOBS).where(JOBS.c.job_id.in_(job_ids))
    if account is not None:
        change = change.where(JOBS.c.account_id == account)
    async with database.write() as connection:
        return (await connection.execute(change)).rowcount


async def purge_archive(database: Database, before: datetime, limit: int = 1_000) -> int:
    """Delete up to `limit` jobs that finished before an instant; returns how many."""
    old = select(JOBS.c.job_id).where(JOBS.c.finished_at < before).limit(limit)
    async with database.write() as connection:
        return (await connection.execute(delete(JOBS).where(JOBS.c.job_id.in_(old)))).rowcount
