"""Jobs to submit through the job store, and a model that is registered without a worker."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.servers.pipeline_servers import Servers
from core.ids import new_id
from jobs.job import JobSpec
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.transitions import Submission

#: How many submissions are under way concurrently.
CONCURRENCY = 64


def submission(queue: str) -> Submission:
    """Return one ordinary job for a queue."""
    body = {"model": queue, "prompt": "Tell me about the river.", "max_tokens": 64}
    return Submission(new_id("job"), "bench", queue, JobSpec("/v1/completions", body))


@asynccontextmanager
async def known_model(servers: Servers) -> AsyncIterator[JobStore]:
    """Register a model that no worker serves; yield the job store."""
    store = open_store(servers.settings)
    await ModelRegistry(store.redis, store.keys).register(
        ServedModel("penstock-tiny", 2048, "simulated", int(time.time()))
    )
    yield store
    await store.close()
