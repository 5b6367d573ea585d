"""Looks up what became of jobs: in Redis, then in the archive, then among the tombstones.

Invariant: a job counts as never submitted only if none of the three knows it, so that a batch
whose process was down for days still finds its results. Results are read a few at a time.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NamedTuple

from batches.job_window import PendingJob
from batches.result_lines import EXPIRED, LineOutcome, NotRunReason, RequestRef
from core.errors import RunTimeout
from intake.services import Services
from jobs.archive.archived_job import ArchivedJob, read_finished
from jobs.archive.job_archive import archived_jobs
from jobs.job import Job
from jobs.status import Status
from jobs.store.transitions import EndedJob

#: How many results are read together: answers may be large, and a whole window may have ended.
GROUP_SIZE = 16


class CollectedJobs(NamedTuple):
    """The outcomes of some jobs; `unknown` are jobs that no store knows."""

    outcomes: list[LineOutcome]
    unknown: list[PendingJob]


async def collect_results(
    services: Services,
    account: str,
    window: Mapping[str, PendingJob],
    reason: NotRunReason | None,
) -> AsyncGenerator[CollectedJobs, None]:
    """Yield the outcomes of the jobs that have ended, some at a time.

    The reader may remove the jobs it was given from the window, but no others.

    Args:
        services: What the process shares.
        account: The account of the jobs.
        window: The open jobs by id.
        reason: Why the batch is being stopped; None while it runs.

    Raises:
        StoreUnavailable, DatabaseUnavailable: retry later.
    """
    ended = await services.store.ended.find(list(window))
    for start in range(0, len(ended), GROUP_SIZE):
        yield await _collect(services, account, window, reason, ended[start : start + GROUP_SIZE])


async def _collect(
    services: Services,
    account: str,
    window: Mapping[str, PendingJob],
    reason: NotRunReason | None,
    ended: Sequence[EndedJob],
) -> CollectedJobs:
    finished = [job for job in ended if job.status]
    archived = {job.job_id: job for job in await read_finished(services.store, finished)}
    missing = [job.job_id for job in ended if job.job_id not in archived]
    lost: set[str] = set()
    if missing:
        archived |= await archived_jobs(services.database, missing, account)
        missing = [job_id for job_id in missing if job_id not in archived]
    if missing:
        tombstones = await services.store.ended.tombstones(missing)
        # A record that exists but cannot be read now will not be readable later.
        lost = set(tombstones) | {job.job_id for job in finished if job.job_id in missing}
    outcomes = [
        _outcome(services, window[job_id].ref, job, reason) for job_id, job in archived.items()
    ]
    outcomes += [window[job_id].ref.lost() for job_id in lost]
    return CollectedJobs(outcomes, [window[job_id] for job_id in missing if job_id not in lost])


def _outcome(
    services: Services, ref: RequestRef, archived: ArchivedJob, reason: NotRunReason | None
) -> LineOutcome:
    job = archived.job()
    if job.status is Status.COMPLETED:
        return ref.answered(archived, services.cost_cache.of(job).cost)
    if job.status is Status.EXPIRED and not _ran_too_long(job):
        return ref.not_run(EXPIRED)  # its deadline is the end of the completion window
    if job.status is Status.CANCELLED and reason is not None:
        return ref.not_run(reason)
    return ref.ended(archived)


def _ran_too_long(job: Job) -> bool:
    return job.error is not None and job.error["code"] == RunTimeout.code
