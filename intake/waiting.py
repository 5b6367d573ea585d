"""Waiting for a job: as long as the client stays, the server stands, and time allows."""

from contextlib import aclosing

from core.errors import JobGone
from intake.client_span import client_span
from intake.errors import ShuttingDown, WaitTimeout
from intake.request_lifetime import Disconnected, EndReason, RequestLifetime
from intake.services import Services
from intake.watched_job import WatchedJob, cancel_if_abandoned
from jobs.job import Job
from jobs.result import JobResult

PAGE_EVENTS = 512


async def wait_result(
    api: Services, disconnected: Disconnected, watched: WatchedJob, seconds: float
) -> tuple[JobResult, EndReason | None]:
    """Gather a job's result until it ends or the wait does; says why when it was the wait.

    When the client leaves, the job's policy decides what becomes of it.
    """
    result = JobResult()
    with (
        api.job_watchers.watching(watched.job_id),
        client_span(watched.job_id, watched.traceparent, "whole"),
    ):
        presence = RequestLifetime(disconnected, api.open_requests, seconds, patient=True)
        async with presence:
            following = api.hub.follow(watched.job_id, watched.account, watched.after)
            async with aclosing(following) as batches:
                async for events in batches:
                    for event in events:
                        result.add(event)
    if presence.ended is EndReason.CLIENT:
        await cancel_if_abandoned(api, watched)
    if result.status is None and presence.ended is None:
        raise JobGone(f"job {watched.job_id} was deleted")
    return result, None if result.status else presence.ended


async def wait_end(
    api: Services,
    disconnected: Disconnected,
    job: Job,
    seconds: float,
    *,
    leaving_counts: bool = False,
) -> Job:
    """Wait until a job has ended or the wait has; returns its record as it is then."""
    watched = WatchedJob.of(job, job.seq)
    with api.job_watchers.watching(job.id), client_span(job.id, watched.traceparent, "wait"):
        presence = RequestLifetime(disconnected, api.open_requests, seconds)
        async with presence:
            following = api.hub.follow(watched.job_id, watched.account, watched.after)
            async with aclosing(following) as batches:
                async for _ in batches:
                    pass
    if presence.ended is EndReason.CLIENT and leaving_counts:
        await cancel_if_abandoned(api, watched)
    return await api.store.get(job.id, job.account)


def too_long(ended: EndReason, job_id: str, seconds: float) -> ShuttingDown | WaitTimeout:
    """Return the error for a wait that ended before the job."""
    where = f"job {job_id} goes on: GET /v1/jobs/{job_id}"
    if ended is EndReason.SERVER:
        return ShuttingDown(f"this server is closing; {where}", retry_after_seconds=1)
    return WaitTimeout(f"not finished within {seconds:.0f} s; {where}")


async def read_result(api: Services, job_id: str) -> JobResult:
    """Fold a job's log as it stands."""
    result, after = JobResult(), 0
    while True:
        events = await api.store.read_log(job_id, after, PAGE_EVENTS)
        for event in events:
            result.add(event)
        if len(events) < PAGE_EVENTS:
            return result
        after = events[-1].seq
