"""The archive shows finished jobs to their owner only and deletes old ones."""

from datetime import UTC, datetime, timedelta

from core.db.database import Database
from jobs.archive.job_archive import archived_job, erase_archived, purge_archive
from jobs.store.job_store import JobStore
from tests.integration.billing.conftest import settings
from tests.support.ledger import archived, consuming, end_jobs, until_consumed, usage_of

__all__ = ["settings"]


async def test_only_the_owner_reads_and_erases(store: JobStore, database: Database) -> None:
    (job_id,) = await end_jobs(store, 1)
    async with consuming(store, database):
        await until_consumed(store)

    assert await archived_job(database, job_id, "other") is None
    assert await erase_archived(database, [job_id], "other") == 0
    assert await archived_job(database, job_id, "acme") is not None
    assert await archived_job(database, job_id, None) is not None
    assert await erase_archived(database, [job_id], "acme") == 1
    assert await archived_job(database, job_id, None) is None


async def test_old_jobs_go_a_few_at_a_time_and_the_ledger_stays(
    store: JobStore, database: Database
) -> None:
    old = await end_jobs(store, 5)
    async with consuming(store, database):
        await until_consumed(store)
    soon = datetime.now(UTC) + timedelta(seconds=1)

    assert await purge_archive(database, soon - timedelta(days=1)) == 0
    assert [await purge_archive(database, soon, limit=2) for _ in range(4)] == [2, 2, 1, 0]

    assert await archived(database) == []
    assert set(await usage_of(database)) == set(old)
