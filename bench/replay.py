"""Replays a workload against a running pipeline in real time, and says how long each job waited."""

import asyncio
import time
from dataclasses import dataclass, replace

from core.ids import new_id
from core.settings.tree import Settings
from jobs.fairness import ServiceTier
from jobs.job import Job, JobSpec
from jobs.store.job_store import JobStore
from jobs.store.transitions import Submission
from planning.trace import Trace, as_trace

POLL_SECONDS = 0.1
TIERS = list(ServiceTier)


@dataclass(frozen=True, slots=True)
class Observed:
    """What really happened: the workload as it came to be, and each request's wait and end."""

    trace: Trace
    waits: list[float]
    latencies: list[float]


async def replay(
    store: JobStore, settings: Settings, trace: Trace, give_up_seconds: float = 120.0
) -> Observed:
    """Submit each request at its moment; returns when all of them have ended.

    Raises:
        TimeoutError: they had not `give_up_seconds` after the last arrival.
        RuntimeError: one did not complete.
    """
    began = time.monotonic()
    ids = []
    for index in range(len(trace)):
        await asyncio.sleep(max(0.0, began + trace.arrivals[index] - time.monotonic()))
        job = _submission(settings.engine.served_name, trace, index)
        await store.submit(job)
        ids.append(job.id)
    async with asyncio.timeout(give_up_seconds):
        return await _observe(store, trace, ids)


async def _observe(store: JobStore, trace: Trace, ids: list[str]) -> Observed:
    jobs = []
    for job_id in ids:
        job = await _ended(store, job_id)
        if job.status != "completed":
            raise RuntimeError(f"{job_id} is {job.status}: {job.error}")
        jobs.append(job)
    requests = [
        replace(request, at=job.created / 1000)
        for request, job in zip(trace.requests(), jobs, strict=True)
    ]
    return Observed(
        as_trace(requests),
        [(job.started - job.created) / 1000 for job in jobs],
        [(job.finished - job.created) / 1000 for job in jobs],
    )


async def _ended(store: JobStore, job_id: str) -> Job:
    while True:
        job = await store.get(job_id, None)
        if job.status.is_terminal:
            return job
        await asyncio.sleep(POLL_SECONDS)


def _submission(model: str, trace: Trace, index: int) -> Submission:
    # Token ids, so that the prompt has exactly as many tokens as the trace says.
    prompt = [100 + (index * 7 + place) % 800 for place in range(max(1, trace.inputs[index]))]
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": trace.outputs[index],
        "ignore_eos": True,
    }
    spec = JobSpec("/v1/completions", body, service_tier=TIERS[trace.tiers[index]])
    return Submission(new_id("job"), trace.accounts[index], model, spec)
