"""Waits for a job, while the client stays connected, the server runs, and time is left."""

from contextlib import aclosing, nullcontext

from core.errors import JobGone
from intake.errors import ShuttingDown, WaitTimeout
from intake.lifetime.client_span import client_span
from intake.lifetime.request_lifetime import Disconnected, EndReason, RequestLifetime
from intake.services import Services
from intake.watched_job import WatchedJob, cancel_if_abandoned
from jobs.job import Job
from jobs.result import JobResult

PAGE_EVENTS = 512


async def wait_result(
    services: Services, disconnected: Disconnected, watched: WatchedJob, seconds: float
) -> tuple[JobResult, EndReason | None]:
    """Collect a job's result until the job or the wait ends.

    If the client disconnects, the job's policy decides whether it is cancelled.

    Args:
        services: What the process shares.
        disconnected: Returns when the client has disconnected.
        watched: The job.
        seconds: How long to wait.

    Returns:
        The result so far, and why the wait ended; None if the job ended.

    Raises:
        JobGone: the job was deleted meanwhile.
    """
    result = JobResult()
    with (
        services.job_watchers.watching(watched.job_id),
        client_span(watched.job_id, watched.traceparent, "whole"),
    ):
        lifetime = RequestLifetime(disconnected, services.open_requests, seconds, gets_grace=True)
        async with lifetime:
            following = services.hub.follow(watched.job_id, watched.account, watched.after)
            async with aclosing(following) as batches:
                async for events in batches:
                    for event in events:
                        result.add(event)
    if lifetime.ended is EndReason.CLIENT:
        await cancel_if_abandoned(services, watched)
    if result.status is None and lifetime.ended is None:
        raise JobGone(f"Job {watched.job_id} was deleted")
    return result, None if result.status else lifetime.ended


async def wait_end(
    services: Services,
    disconnected: Disconnected,
    job: Job,
    seconds: float,
    *,
    leaving_counts: bool = False,
) -> Job:
    """Wait until a job or the wait ends.

    Args:
        services: What the process shares.
        disconnected: Returns when the client has disconnected.
        job: The job.
        seconds: How long to wait.
        leaving_counts: Whether the client counts as one that watches the job, and the job's policy
            applies if it disconnects. A long poll does not count.

    Returns:
        The job's record after the wait.
    """
    watched = WatchedJob.of(job, job.seq)
    counted = services.job_watchers.watching(job.id) if leaving_counts else nullcontext()
    with counted, client_span(job.id, watched.traceparent, "wait"):
        lifetime = RequestLifetime(disconnected, services.open_requests, seconds)
        async with lifetime:
            following = services.hub.follow(watched.job_id, watched.account, watched.after)
            async with aclosing(following) as batches:
                async for _ in batches:
                    pass
    if lifetime.ended is EndReason.CLIENT and leaving_counts:
        await cancel_if_abandoned(services, watched)
    return await services.store.get(job.id, job.account)


def wait_ended_error(reason: EndReason, job_id: str, seconds: float) -> ShuttingDown | WaitTimeout:
    """Return the error for a wait that ended before its job; `seconds` is how long it was."""
    advice = f"The job continues: GET /v1/jobs/{job_id}"
    if reason is EndReason.SERVER:
        return ShuttingDown(f"This server is shutting down. {advice}", retry_after_seconds=1)
    return WaitTimeout(f"The job did not end within {seconds:.0f} s. {advice}")


async def read_result(services: Services, job_id: str) -> JobResult:
    """Return a job's result from the whole of its log as it is now.

    Raises:
        StoreUnavailable: Redis is down.
    """
    result, after = JobResult(), 0
    while True:
        events = await services.store.read_log(job_id, after, PAGE_EVENTS)
        for event in events:
            result.add(event)
        if len(events) < PAGE_EVENTS:
            return result
        after = events[-1].seq
