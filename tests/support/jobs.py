"""Helpers that create jobs and act as a worker against the store."""

from typing import Any

import orjson

from core.ids import new_id
from jobs.fairness import ServiceTier
from jobs.job import Job, JobSpec
from jobs.status import Status
from jobs.store.dead_letters import DeadLetterFilter
from jobs.store.job_store import JobStore
from jobs.store.transitions import Appended, ClaimedJob, Ending, LogAppend, Submission

QUEUE = "m"


def submission(
    account: str = "acme",
    *,
    tokens: int = 16,
    tier: ServiceTier = ServiceTier.DEFAULT,
    prompt: str = "hello",
    queue: str = QUEUE,
    url: str = "/v1/completions",
    body: dict[str, Any] | None = None,
    **fields: Any,
) -> Submission:
    """Return a small job."""
    spec = JobSpec(
        url=url, body=body or {"prompt": prompt, "max_tokens": tokens}, service_tier=tier
    )
    return Submission(id=new_id("job"), account=account, queue=queue, spec=spec, **fields)


def delta(token_ids: list[int], text: str = "x", finish_reason: str | None = None) -> bytes:
    """Return a delta event's data."""
    data: dict[str, Any] = {"index": 0, "token_ids": token_ids, "text": text}
    if finish_reason:
        data["finish_reason"] = finish_reason
    return orjson.dumps(data)


async def write(
    store: JobStore,
    job: ClaimedJob,
    after: int,
    token_ids: list[int],
    *,
    output_tokens: int | None = None,
    input_tokens: int = 3,
    cached_input_tokens: int = 0,
    ending: Ending | None = None,
) -> Appended:
    """Append one delta as the holder of `job`."""
    step = LogAppend(
        id=job.id,
        fence=job.fence,
        after=after,
        events=[("delta", delta(token_ids))] if token_ids else [],
        input_tokens=input_tokens,
        cached_input_tokens=cached_input_tokens,
        output_tokens=len(token_ids) if output_tokens is None else output_tokens,
        ending=ending,
    )
    return (await store.append([step]))[0]


async def complete(store: JobStore, job: ClaimedJob) -> Appended:
    """Write one token and end the job."""
    return await write(store, job, job.seq, [7], ending=Ending(Status.COMPLETED))


async def dead_letters(store: JobStore, account: str) -> list[Job]:
    """Return an account's dead-letter jobs, newest first."""
    return (await store.dead.page(DeadLetterFilter(account), limit=100)).jobs
