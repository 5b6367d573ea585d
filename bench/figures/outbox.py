"""Outbox: usage events per second that the ledger rates, archives and commits to PostgreSQL.

The ledger process runs as in production, on an outbox of finished jobs whose records and logs are
in Redis, as after an outage of the database. Redis and PostgreSQL run on the same cores.
"""

import asyncio
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import func, select

from bench.figure import Figure, rounded
from bench.servers.pipeline_servers import Servers, bench_settings, redis_server
from bench.servers.postgres import postgres
from billing.ledger.consumer import GROUP
from billing.pricing.prices import NewPrice, set_price
from core.db.database import Database
from core.db.schema_version import upgrade
from core.db.tables.usage import ArchivedJobRow, UsageEventRow
from core.ids import new_id
from core.settings.tree import Settings
from jobs.job import JobSpec
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.usage_outbox import Outbox

EVENTS = 30_000
ROUNDS = 3
PIPELINED = 1_000
TOKENS = 64
MODEL = "m"
TEXT = "word " * TOKENS


async def measure() -> Figure:
    """Measure several rounds in which the ledger process empties a full outbox."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url, postgres() as sql:
        settings = bench_settings(
            url,
            Path(name),
            database={"url": SecretStr(sql)},
            billing={"health_port": 0},
            retention={"start": "archive"},
        )
        await asyncio.to_thread(upgrade, settings.database)
        store, database = open_store(settings), Database(settings.database, "bench")
        price = Decimal("0.2"), Decimal("0.05"), Decimal("0.3"), Decimal("1.5"), Decimal("0.5")
        await set_price(database, NewPrice(MODEL, *price))
        rates = []
        for _ in range(ROUNDS):
            await _fill(store)
            rates.append(EVENTS / await _drain(settings, store, Path(name)))
        kept = await _counts(database)
        await database.close()
        await store.close()
    assert kept == (ROUNDS * EVENTS, ROUNDS * EVENTS), kept
    return Figure(
        "outbox",
        round(sorted(rates)[ROUNDS // 2]),
        "events/s",
        must=3_000,
        aim=10_000,
        higher=True,
        compared_with="nothing: an absolute figure, with Redis and PostgreSQL on the same cores",
        details={"rounds": rounded(rates), "tokens_per_job": TOKENS},
    )


async def _fill(store: JobStore) -> None:
    """Write records, logs and outbox entries of finished jobs, without running jobs."""
    redis: Any = store.redis
    keys, now = store.keys, int(time.time() * 1000)
    spec = JobSpec("/v1/completions", {}).encode()
    usage = {"input_tokens": 50, "cached_input_tokens": 16, "output_tokens": TOKENS}
    end = {"status": "completed", "usage": usage, "error": None, "finished_at": now / 1000}
    delta = {"index": 0, "token_ids": list(range(TOKENS)), "text": TEXT, "finish_reason": "stop"}
    log = (("started", {"attempt": 1}), ("delta", delta), ("finished", end))
    entries = [{"t": kind, "d": orjson.dumps(data)} for kind, data in log]
    counts = {"input": 50, "cached": 16, "output": TOKENS, "attempt": 1, "run_ms": 900, "seq": 3}
    times = {"created": now - 1000, "started": now - 900, "finished": now}
    shared = {"account": "bench", "status": "completed", **counts, **times}
    for _ in range(EVENTS // PIPELINED):
        pipe = redis.pipeline(transaction=False)
        for _ in range(PIPELINED):
            job_id = new_id("job")
            pipe.hset(keys.job(job_id), mapping={**shared, "queue": MODEL, "spec": spec})
            for seq, entry in enumerate(entries, 1):
                pipe.xadd(keys.log(job_id), entry, id=f"{seq}-0")
            usage_entry = {**shared, "job": job_id, "key_id": "k", "model": MODEL, "tier": 1}
            pipe.xadd(keys.outbox, usage_entry)
        await pipe.execute()


async def _drain(settings: Settings, store: JobStore, directory: Path) -> float:
    """Run the ledger process until the outbox is empty; returns seconds from its first commit."""
    outbox = Outbox(store.redis, store.keys, GROUP, "")
    servers = Servers(settings, directory, "")
    servers.start("ledger", "billing.process")
    try:
        full = await outbox.backlog()
        while (left := await outbox.backlog()) == full:  # noqa: ASYNC110 - polls another process
            await asyncio.sleep(0.005)
        began, done = time.perf_counter(), full - left
        while await outbox.backlog():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return (time.perf_counter() - began) * full / (full - done)
    finally:
        await asyncio.to_thread(servers.stop)


async def _counts(database: Database) -> tuple[int, int]:
    async with database.read() as connection:
        events = await connection.scalar(select(func.count()).select_from(UsageEventRow))
        archived = await connection.scalar(select(func.count()).select_from(ArchivedJobRow))
    return events or 0, archived or 0
