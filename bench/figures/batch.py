"""Batch: 50,000 requests are accepted and validated in bounded time and memory, then all run.

The file has the largest allowed size. Three workers are killed while the batch runs; still one
output file must hold every result, and every job must be billed once.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx2
import orjson
import psutil
from sqlalchemy import func, select

from bench.figure import Figure
from bench.servers.pipeline_servers import Servers, pipeline
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.usage import UsageEventRow
from core.runtime.child_process import free_port

REQUESTS = 50_000
FILE_BYTES = 199_000_000
MODEL = "penstock-tiny"
DEATHS = 3
MAX_MEMORY_BYTES = 300_000_000
MAX_SECONDS = 7_200.0
POLL_SECONDS = 0.2
TIMEOUT = httpx2.Timeout(300.0)


async def measure() -> Figure:
    """Run one batch from its upload to its results."""
    return await measure_batch(REQUESTS, FILE_BYTES)


async def measure_batch(requests: int, file_bytes: int) -> Figure:
    """Run one batch of this size."""
    async with pipeline(
        worker=False,
        engine={"kind": "simulated", "slots": 256},
        retention={"start": "archive"},
        billing={"health_port": free_port()},
        batches={"health_port": free_port()},
    ) as servers:
        settings = servers.settings
        for name, module, port in (
            ("ledger", "billing", settings.billing.health_port),
            ("feeder", "batches", settings.batches.health_port),
        ):
            ready = f"http://127.0.0.1:{port}/health"
            await asyncio.to_thread(servers.start, name, module, ready)
        await _start_worker(servers)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{servers.port}",
            headers={"Authorization": f"Bearer {servers.key}"},
            timeout=TIMEOUT,
        ) as client:
            run = _BatchRun(servers, client, requests)
            await run.accept(_file(requests, file_bytes))
            await run.finish()
            await run.check()
            return run.figure()


def _file(requests: int, file_bytes: int) -> bytes:
    """Return the JSON lines of `requests` requests that fill about `file_bytes` bytes."""
    size = file_bytes // requests
    lines = []
    for number in range(requests):
        body = {"model": MODEL, "prompt": "", "max_tokens": 4, "ignore_eos": True}
        line = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/completions", "body": body}
        body["prompt"] = "w" * (size - len(orjson.dumps(line)) - 1)
        lines.append(orjson.dumps(line) + b"\n")
    return b"".join(lines)


async def _start_worker(servers: Servers) -> None:
    ready = f"http://127.0.0.1:{servers.settings.worker.health_port}/ready"
    await asyncio.to_thread(servers.start, "worker", "workers", ready)


class _BatchRun:
    """One batch from upload to results."""

    def __init__(self, servers: Servers, client: httpx2.AsyncClient, requests: int) -> None:
        self._servers = servers
        self._client = client
        self._requests = requests
        self._feeder = psutil.Process(servers.processes["feeder"].pid)
        self._api = psutil.Process(servers.processes["api"].pid)
        self._peaks: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._batch: dict[str, Any] = {}

    def _record_memory(self) -> None:
        for name, process in (("feeder", self._feeder), ("api", self._api)):
            self._peaks[name] = max(self._peaks[name], int(process.memory_info().rss))

    async def accept(self, content: bytes) -> None:
        """Upload the file, create the batch, wait until it is validated."""
        began = time.perf_counter()
        upload = {"file": ("in.jsonl", content)}
        uploading = asyncio.create_task(
            self._client.post("/v1/files", files=upload, data={"purpose": "batch"})
        )
        while not uploading.done():
            self._record_memory()
            await asyncio.sleep(POLL_SECONDS)
        file = uploading.result().raise_for_status().json()
        self._seconds["upload"] = time.perf_counter() - began
        request = {
            "input_file_id": file["id"],
            "endpoint": "/v1/completions",
            "completion_window": "24h",
        }
        created = await self._client.post("/v1/batches", json=request)
        self._batch = created.raise_for_status().json()
        while self._batch["status"] == "validating":
            await self._poll()
        assert self._batch["status"] != "failed", self._batch["errors"]
        self._seconds["accepted_and_validated"] = time.perf_counter() - began

    async def _poll(self) -> None:
        self._record_memory()
        await asyncio.sleep(POLL_SECONDS)
        answer = await self._client.get(f"/v1/batches/{self._batch['id']}")
        self._batch = answer.raise_for_status().json()

    async def finish(self) -> None:
        """Wait for the end; kill a worker at each quarter of the requests."""
        began = time.perf_counter()
        deaths = [self._requests * number // (DEATHS + 1) for number in range(1, DEATHS + 1)]
        while not self._over:
            assert time.perf_counter() - began < MAX_SECONDS, self._batch
            await self._poll()
            if deaths and self._batch["request_counts"]["completed"] >= deaths[0]:
                deaths.pop(0)
                self._servers.processes["worker"].kill()
                await asyncio.to_thread(self._servers.processes["worker"].wait)
                await _start_worker(self._servers)
        assert not deaths, "the batch ended before every worker was killed"
        self._seconds["run"] = time.perf_counter() - began

    @property
    def _over(self) -> bool:
        return self._batch["status"] in ("completed", "failed", "expired", "cancelled")

    async def check(self) -> None:
        """Check that the output file has every request once and that each was billed once."""
        batch = self._batch
        assert batch["status"] == "completed", batch
        assert batch["error_file_id"] is None
        seen: Counter[str] = Counter()
        rest = b""
        path = f"/v1/files/{batch['output_file_id']}/content"
        async with self._client.stream("GET", path) as response:
            async for piece in response.aiter_bytes():
                *lines, rest = (rest + piece).split(b"\n")
                seen.update(orjson.loads(line)["custom_id"] for line in lines)
        assert len(seen) == sum(seen.values()) == self._requests
        database = Database(self._servers.settings.database, "bench")
        query = select(func.count()).select_from(table_of(UsageEventRow))
        give_up = time.monotonic() + 120
        billed = 0
        while billed < self._requests and time.monotonic() < give_up:
            await asyncio.sleep(POLL_SECONDS)
            async with database.read() as connection:
                billed = (await connection.execute(query)).scalar_one()
        await database.close()
        assert billed == self._requests, billed

    def figure(self) -> Figure:
        """Return the figure: seconds until the batch is validated."""
        peak = max(self._peaks.values())
        assert peak < MAX_MEMORY_BYTES, self._peaks
        return Figure(
            "batch",
            round(self._seconds["accepted_and_validated"], 1),
            "s",
            must=30,
            aim=15,
            higher=False,
            compared_with="nothing: upload and validation of one batch, and its whole run",
            details={
                "requests": self._requests,
                "worker_deaths": DEATHS,
                "seconds": {name: round(value, 1) for name, value in self._seconds.items()},
                "jobs_per_second": round(self._requests / self._seconds["run"]),
                "peak_mb": {name: value // 1_000_000 for name, value in self._peaks.items()},
            },
        )
