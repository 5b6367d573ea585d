"""Finds a job where it is kept: in Redis, or after its retention there in the archive."""

import re
from dataclasses import dataclass

from core.errors import DatabaseUnavailable, JobGone, JobNotFound
from intake.services import Services
from intake.waiting import read_result
from jobs.archive.job_archive import archived_job, erase_archived
from jobs.job import Job
from jobs.result import JobResult

#: The form of our job ids; SQL is not asked for other ids.
ID = re.compile(r"job_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job's record; with its result if both came from the archive."""

    job: Job
    archived: JobResult | None = None

    async def result(self, services: Services) -> JobResult:
        """Return what the job has produced so far.

        Raises:
            JobGone: it was erased after its record was read, or its retention is over.
            DatabaseUnavailable: it is no longer in Redis, and the archive cannot be read.
        """
        if self.archived is not None:
            return self.archived
        job = self.job
        result = await read_result(services, job.id)
        if result.status is None and job.status.is_terminal:
            # Its log was deleted between two reads: the rest would look like an empty result.
            archived = await archived_job(services.database, job.id, job.account)
            if archived is None:
                raise JobGone(f"Job {job.id} has ended and is no longer kept")
            return archived.outcome()
        return result


async def find_job(services: Services, job_id: str, account: str | None) -> FoundJob:
    """Find a job.

    Args:
        services: What the process shares.
        job_id: The id as the client gave it.
        account: The account it must belong to; None for any.

    Raises:
        JobNotFound: unknown, another account's, or no longer kept anywhere.
        JobGone: it was erased, or its retention is over.
        StoreUnavailable: Redis is down.
        DatabaseUnavailable: it is no longer in Redis, and the archive cannot be read.
    """
    try:
        return FoundJob(await services.store.get(job_id, account))
    except (JobGone, JobNotFound) as missing:
        if ID.fullmatch(job_id):
            try:
                archived = await archived_job(services.database, job_id, account)
            except DatabaseUnavailable:
                if isinstance(missing, JobGone):
                    raise
                raise missing from None
            if archived is not None:
                return FoundJob(archived.job(), archived.outcome())
        raise


async def erase_job(services: Services, job_id: str, account: str) -> None:
    """Erase an ended job from Redis and from the archive; safe to repeat.

    Args:
        services: What the process shares.
        job_id: The id as the client gave it.
        account: The account it must belong to.

    Raises:
        JobConflict: it has not ended.
        JobNotFound, JobGone, StoreUnavailable, DatabaseUnavailable: as `find_job`.
    """
    try:
        await services.store.delete(job_id, account)
    except (JobGone, JobNotFound):
        if not ID.fullmatch(job_id):
            raise
        if not await erase_archived(services.database, [job_id], account):
            raise
    else:
        await erase_archived(services.database, [job_id], account)
