"""Submits jobs through the store and follows them to their end."""

import asyncio
from collections.abc import Sequence

from core.errors import StoreUnavailable
from jobs.events import Event
from jobs.result import JobResult, fold
from jobs.store.job_store import JobStore
from jobs.store.transitions import Submission
from jobs.stream.event_hub import EventHub


async def follow(hub: EventHub, job_id: str, account: str = "acme", after: int = 0) -> list[Event]:
    """Return all events of a job once it has finished."""
    events: list[Event] = []
    async for batch in hub.follow(job_id, account, after):
        events += batch
    return events


async def follow_as_client(hub: EventHub, job_id: str, account: str = "acme") -> list[Event]:
    """Follow like a client that reconnects with its cursor when it is told to come back."""
    events: list[Event] = []
    while not events or events[-1].type != "finished":
        try:
            async for batch in hub.follow(job_id, account, events[-1].seq if events else 0):
                events += batch
        except StoreUnavailable as refused:
            await asyncio.sleep(min(0.2, refused.retry_after_seconds))
    return events


async def follow_all(hub: EventHub, jobs: Sequence[Submission], seconds: float) -> list[JobResult]:
    """Return the results of submitted jobs, reconnecting as clients do."""
    async with asyncio.timeout(seconds):
        logs = await asyncio.gather(*(follow_as_client(hub, job.id, job.account) for job in jobs))
    return [fold(events) for events in logs]


async def run_jobs(
    store: JobStore,
    hub: EventHub,
    jobs: Sequence[Submission],
    timeout: float = 60.0,  # noqa: ASYNC109
) -> list[JobResult]:
    """Submit jobs and return their results."""

    async def one(job: Submission) -> JobResult:
        await store.submit(job)
        return fold(await follow(hub, job.id, job.account))

    async with asyncio.timeout(timeout):
        return list(await asyncio.gather(*(one(job) for job in jobs)))


def text_of(result: JobResult, index: int = 0) -> str:
    """Return a choice's whole text."""
    return "".join(result.choices[index].text)


def ids_of(result: JobResult, index: int = 0) -> list[int]:
    """Return a choice's token ids."""
    return [token for chunk in result.choices[index].chunks for token in chunk]
