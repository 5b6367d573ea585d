"""One chaos run: start, load, faults, repair, wait until idle, judge."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.stream.event_hub import EventHub
from tests.chaos.load import ACCOUNTS, Load
from tests.chaos.plan import plan
from tests.chaos.stage import Stage
from tests.chaos.verdict import Verdict, judge
from tests.support.invariants import check_nothing_left, check_only_known_keys
from tests.support.keys import make_several, sqlite_in
from tests.support.machine import bound
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, simulated_settings
from tests.support.waiting import eventually

SIZES = {"control": 2, "worker": 3, "api": 2}
SETTLE_SECONDS = 240.0
#: Most seconds from a submit of an account without poison to its first token, for 95 of 100 jobs.
#: Alone on two cores it is 4 to 7 s without poison and 5 to 10 s with it (three seeds each), and up
#: to 13 s beside another test process.
BYSTANDERS_SECONDS = 20.0
#: Longer than every pause of a healthy engine, however busy the machine is.
HANG_SECONDS = 8.0
#: The most memory that a process may use; a worker without a model needs about 90 MB.
RSS_BYTES = 300_000_000

log = structlog.get_logger()


async def run_chaos(seed: int, seconds: float, *, clients: int = 120) -> dict[str, Any]:
    """Return the figures of one run; `violations` is what must be 0."""
    with tempfile.TemporaryDirectory(prefix="penstock-chaos-") as name:
        directory = Path(name)
        server = RedisServer("redis", directory / "redis", aof=True)
        server.start()
        proxy = Proxy(server.port)
        proxy.start()
        try:
            return await _run(seed, seconds, clients, server, proxy, directory)
        finally:
            proxy.stop()
            server.stop()


def _settings(server: RedisServer, proxy: Proxy, directory: Path) -> Settings:
    """Return default settings, but with quick retries, and hangs that are soon noticed."""
    settings = simulated_settings(
        server,
        slots=24,
        step_seconds=0.004,
        retry={"base_seconds": 0.1, "cap_seconds": 1.0},
        worker={"hang_seconds": HANG_SECONDS},
        stream={"ping_seconds": 5.0},
        database=sqlite_in(directory),
        log={"level": "WARNING"},
    )
    values = settings.model_dump(exclude_unset=True)
    values["redis"] = {"url": proxy.url, "prefix": settings.redis.prefix}
    return Settings(_env_file=None, **values)


async def _run(
    seed: int, seconds: float, clients: int, server: RedisServer, proxy: Proxy, directory: Path
) -> dict[str, Any]:
    settings = _settings(server, proxy, directory)
    made = make_several(settings, *((account, {}) for account in ACCOUNTS))
    keys = dict(zip(ACCOUNTS, made, strict=True))
    stage = Stage(settings, server, proxy, directory, SIZES)
    store = open_store(settings)
    hub = EventHub(store, settings.stream)
    began = time.monotonic()
    try:
        await hub.start()
        await stage.start()
        load = Load(seed, stage.api_port, keys, store, hub)
        stage.poison = load.poison
        load.start(clients)
        await _strike_all(stage, seed, seconds)
        await stage.heal()
        problems = await load.finish(SETTLE_SECONDS)
        verdict = await _settle(settings, server, load, problems)
    finally:
        await stage.stop()
        await hub.close()
        await store.close()
    return _figures(seed, time.monotonic() - began, stage, load, verdict)


async def _strike_all(stage: Stage, seed: int, seconds: float) -> None:
    began = time.monotonic()
    for fault in plan(seed, seconds):
        await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
        struck = await stage.strike(fault)
        log.info("fault", kind=fault.kind, at=round(fault.at, 2), struck=struck)
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))


async def _settle(
    settings: Settings, server: RedisServer, load: Load, problems: list[str]
) -> Verdict:
    """Wait until no job is left, then judge over a connection without faults."""
    redis = {"url": server.url, "prefix": settings.redis.prefix}
    values = {**settings.model_dump(exclude_unset=True), "redis": redis}
    store = open_store(Settings(_env_file=None, **values))
    try:
        try:
            await eventually(lambda: _quiet(store), SETTLE_SECONDS)
            await check_nothing_left(store, MODEL)
            await check_only_known_keys(store, MODEL)
        except AssertionError as error:
            problems.append(str(error))
        verdict = await judge(store, load.wanted)
        verdict.problems += problems
        return verdict
    finally:
        await store.close()


async def _quiet(store: JobStore) -> bool:
    """Whether no job is left and every surplus ticket has been taken."""
    redis: Any = store.redis
    keys = store.keys
    pipe: Any = redis.pipeline(transaction=True)  # a job may go from one place to another
    pipe.hget(keys.part(MODEL, "waiting"), "*")
    pipe.zcard(keys.running(MODEL))
    pipe.llen(keys.tickets(MODEL))
    waiting, running, tickets = await pipe.execute()
    return not int(waiting or 0) and not running and not tickets


def _figures(
    seed: int, seconds: float, stage: Stage, load: Load, verdict: Verdict
) -> dict[str, Any]:
    slow = verdict.first_token(95)
    if slow > bound(BYSTANDERS_SECONDS):
        verdict.problems.append(f"5 % of the good accounts' first tokens took over {slow} s")
    for name, rss in stage.rss.items():
        if rss > RSS_BYTES:
            verdict.problems.append(f"a {name} process took {rss >> 20} MiB")
    verdict.problems += load.problems
    verdict.problems += stage.crashes()
    verdict.problems += stage.unexpected
    verdict.problems += [f"not live: {text}" for text in stage.deaf]
    figures = verdict.as_dict()
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "faults": stage.faults.total(),
        **figures,
        "refusals": load.refusals,
        "unexpected_exits": len(stage.unexpected),
        "liveness_restarts": len(stage.deaf),
        "slow_exits": stage.slow_exits,
        "starts": {name: stage.starts[name] for name in SIZES},
        "max_rss_mib": {name: rss >> 20 for name, rss in stage.rss.items()},
        "by_kind": dict(sorted(stage.faults.items())),
        "violations": verdict.violations,
    }
