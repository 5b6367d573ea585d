"""Finds out what became of jobs: from Redis, else from the archive, else from their tombstones.

Invariant: a job counts as never submitted only where nothing at all remembers it; a batch whose
process was away for days still finds what its jobs produced. Results are read a few at a time.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NamedTuple

from batches.result_lines import EXPIRED, LineOutcome, RequestRef
from intake.services import Services
from jobs.archive.archived_job import ArchivedJob, read_finished
from jobs.archive.job_archive import archived_jobs
from jobs.status import Status
from jobs.store.transitions import EndedJob

#: Answers may be large, and a whole window of them may be there at once.
AT_ONCE = 16


class PendingJob(NamedTuple):
    """A request whose job is open, as far as is known; `raw` is its line."""

    place: RequestRef
    job_id: str
    raw: bytes


class CollectedJob(NamedTuple):
    """What became of some jobs; nothing remembers the `unknown`."""

    outcomes: list[LineOutcome]
    unknown: list[PendingJob]


async def collect(
    api: Services, account: str, window: Mapping[str, PendingJob], why: tuple[str, str] | None
) -> AsyncGenerator[CollectedJob, None]:
    """Look at every open job; `why` is set once the batch itself is being stopped.

    Whoever is given some may take these out of the window, and no others.

    Raises:
        StoreUnavailable, DatabaseUnavailable: come back later.
    """
    ended = await api.store.ended.among(list(window))
    for start in range(0, len(ended), AT_ONCE):
        yield await _collect(api, account, window, why, ended[start : start + AT_ONCE])


async def _collect(
    api: Services,
    account: str,
    window: Mapping[str, PendingJob],
    why: tuple[str, str] | None,
    ended: Sequence[EndedJob],
) -> CollectedJob:
    finished = [one for one in ended if one.status]
    archived = {job.job_id: job for job in await read_finished(api.store, finished)}
    missing = [one.job_id for one in ended if one.job_id not in archived]
    lost: set[str] = set()
    if missing:
        archived |= await archived_jobs(api.database, missing, account)
        missing = [job_id for job_id in missing if job_id not in archived]
    if missing:
        stones = await api.store.ended.tombstones(missing)
        # A record that is there and cannot be read will not be readable later.
        lost = set(stones) | {one.job_id for one in finished if one.job_id in missing}
    outcomes = [_outcome(api, window[job_id].place, job, why) for job_id, job in archived.items()]
    outcomes += [window[job_id].place.lost() for job_id in lost]
    return CollectedJob(outcomes, [window[job_id] for job_id in missing if job_id not in lost])


def _outcome(
    api: Services, place: RequestRef, archived: ArchivedJob, why: tuple[str, str] | None
) -> LineOutcome:
    job = archived.job()
    if job.status is Status.COMPLETED:
        return place.answered(archived, api.cost_cache.of(job).cost)
    if job.status is Status.EXPIRED:
        return place.undone(EXPIRED)  # its deadline is the batch's
    if job.status is Status.CANCELLED and why is not None:
        return place.undone(why)
    return place.ended(archived)
