"""Batches for tests: files of requests, a worker that answers immediately, and final checks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson

from batches.scheduler import BatchScheduler
from core.errors import EngineError
from core.settings.tree import Settings
from intake.services_factory import open_services
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob, Ending, LogAppend
from tests.support.waiting import eventually

ENDED = ("completed", "failed", "expired", "cancelled")
COMPLETIONS = "/v1/completions"
COMPLETED = Ending(Status.COMPLETED)


def line(custom_id: str, model: str, url: str = COMPLETIONS, **body: Any) -> bytes:
    """Return one request."""
    asked = {"model": model, "prompt": f"say {custom_id}", "max_tokens": 3, **body}
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}
    return orjson.dumps(request) + b"\n"


def lines(count: int, model: str, **body: Any) -> bytes:
    """Return a file of requests named `r0`, `r1`, ..."""
    return b"".join(line(f"r{number}", model, **body) for number in range(count))


async def upload(client: httpx2.AsyncClient, content: bytes) -> str:
    """Upload a file and return its id."""
    answer = await client.post(
        "/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def create(client: httpx2.AsyncClient, content: bytes, **fields: Any) -> dict[str, Any]:
    """Upload a file and make a batch of it."""
    asked = {
        "input_file_id": await upload(client, content),
        "endpoint": COMPLETIONS,
        "completion_window": "24h",
        **fields,
    }
    answer = await client.post("/v1/batches", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def read(client: httpx2.AsyncClient, batch_id: str) -> dict[str, Any]:
    """Return a batch."""
    return dict((await client.get(f"/v1/batches/{batch_id}")).json())


async def until(
    client: httpx2.AsyncClient,
    batch_id: str,
    *statuses: str,
    timeout: float = 30.0,  # noqa: ASYNC109
) -> dict[str, Any]:
    """Wait for one of these statuses, any end by default; return the batch."""
    found: dict[str, Any] = {}

    async def reached() -> bool:
        found.update(await read(client, batch_id))
        return found["status"] in (statuses or ENDED)

    await eventually(reached, timeout=timeout)
    return found


async def results(client: httpx2.AsyncClient, file_id: str | None) -> list[dict[str, Any]]:
    """Return the lines of a batch's file."""
    if file_id is None:
        return []
    content = (await client.get(f"/v1/files/{file_id}/content")).content
    return [orjson.loads(raw) for raw in content.splitlines()]


async def check_whole(client: httpx2.AsyncClient, batch: dict[str, Any], count: int) -> None:
    """Check that each request is in one of the two files once, and that the counts agree."""
    answers = await results(client, batch["output_file_id"])
    errors = await results(client, batch["error_file_id"])
    seen = Counter(one["custom_id"] for one in [*answers, *errors])
    assert set(seen) == {f"r{number}" for number in range(count)}
    assert set(seen.values()) == {1}, seen.most_common(3)
    counts = batch["request_counts"]
    assert counts == {"total": count, "completed": len(answers), "failed": len(errors)}
    assert len({one["id"] for one in [*answers, *errors]}) == count
    for one in answers:
        assert one["error"] is None
        assert one["response"]["status_code"] == 200
        assert one["response"]["body"]["object"]


@asynccontextmanager
async def feeding(settings: Settings, name: str = "test") -> AsyncIterator[BatchScheduler]:
    """Run the batch scheduler in this process for the length of a block."""
    async with open_services(settings, "feeder") as api:
        await api.cost_cache.refresh()
        feeder = BatchScheduler(api, name)
        task = asyncio.create_task(feeder.run())
        try:
            yield feeder
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def answering_all(store: JobStore, queue: str) -> AsyncIterator[list[str]]:
    """Answer every job of a queue with its prompt; fail the jobs whose prompt asks for it."""
    taken: list[str] = []

    async def work() -> None:
        while True:
            jobs = await store.claim(queue, "all", 64)
            taken.extend(job.id for job in jobs)
            if jobs:
                await store.append([_answer(job) for job in jobs])
            else:
                await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield taken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _answer(job: ClaimedJob) -> LogAppend:
    body = job.spec.body
    prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    ending = COMPLETED
    if "please fail" in prompt:
        ending = Ending(Status.FAILED, EngineError("it did as it was told"))
    return says(job, f"echo {prompt}", ending)


def says(job: ClaimedJob, text: str, ending: Ending = COMPLETED) -> LogAppend:
    """Return the log append that writes a text and ends the job."""
    delta = {"index": 0, "token_ids": [7], "text": text, "finish_reason": "stop"}
    return LogAppend(
        id=job.id,
        fence=job.fence,
        after=job.seq,
        events=[("delta", orjson.dumps(delta))],
        input_tokens=5,
        cached_input_tokens=2,
        output_tokens=1,
        ending=ending,
    )
