"""Finds a job wherever it is kept: in Redis, or once that has let it go, in the archive."""

import re
from dataclasses import dataclass

from core.errors import DatabaseUnavailable, JobGone, JobNotFound
from intake.services import Services
from intake.waiting import read_result
from jobs.archive.job_archive import archived_job, erase_archived
from jobs.job import Job
from jobs.result import JobResult

#: Anything else was never an id of ours, and SQL need not be asked.
ID = re.compile(r"job_[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job's record, with its result where the archive had both."""

    job: Job
    archived: JobResult | None = None

    async def result(self, api: Services) -> JobResult:
        """Return what it produced.

        Raises:
            JobGone: it was erased since its record was read, or is kept no longer.
            DatabaseUnavailable: Redis has let go of it, and the archive cannot be asked.
        """
        if self.archived is not None:
            return self.archived
        job = self.job
        result = await read_result(api, job.id)
        if result.status is None and job.status.is_terminal:
            # Its log went between two reads; what is left of it would look like an empty answer.
            kept = await archived_job(api.database, job.id, job.account)
            if kept is None:
                raise JobGone(f"job {job.id} finished and is no longer kept")
            return kept.outcome()
        return result


async def find_job(api: Services, job_id: str, account: str | None) -> FoundJob:
    """Return a job of this account; of any when None.

    Raises:
        JobNotFound: unknown, another account's, or no longer kept anywhere.
        JobGone: it was erased, or is past its retention.
        DatabaseUnavailable: it is no longer in Redis, and the archive cannot be asked.
    """
    try:
        return FoundJob(await api.store.get(job_id, account))
    except (JobGone, JobNotFound) as missing:
        if ID.fullmatch(job_id):
            try:
                archived = await archived_job(api.database, job_id, account)
            except DatabaseUnavailable:
                if isinstance(missing, JobGone):
                    raise
                raise missing from None
            if archived is not None:
                return FoundJob(archived.job(), archived.outcome())
        raise


async def erase_job(api: Services, job_id: str, account: str) -> None:
    """Erase a finished job wherever it is kept; safe to repeat.

    Raises:
        JobConflict: it has not finished.
        JobNotFound, JobGone, DatabaseUnavailable: as `find_job`.
    """
    try:
        await api.store.delete(job_id, account)
    except (JobGone, JobNotFound):
        if not ID.fullmatch(job_id) or not await erase_archived(api.database, [job_id], account):
            raise
    else:
        await erase_archived(api.database, [job_id], account)
