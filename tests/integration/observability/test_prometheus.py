"""A whole pipeline under load, scraped by a real Prometheus: panels, rules and alerts."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite

import httpx2
import pytest

from billing.pricing.gpu_rates import GpuRate, set_gpu_rate
from core.db.database import Database
from core.settings.tree import Settings
from tests.support.keys import make_key, prepare_database, sqlite_in
from tests.support.ledger import a_price
from tests.support.otlp import OtlpReceiver
from tests.support.processes import ROOT, Pipeline, connect, whole_pipeline
from tests.support.prometheus import PrometheusServer, rules_of, scaled, shipped
from tests.support.redis_server import RedisServer
from tests.support.redis_server import running as redis_running
from tests.support.scraping import metrics_port
from tests.support.simulated import MODEL, simulated_settings
from tests.support.waiting import eventually
from workers.gpu_metrics import READINGS

DASHBOARD = ROOT / "deploy/grafana/dashboards/penstock.json"
SCALE = 60

#: Only a machine with a GPU has these, or what rules make of them; the names that rules begin with
#: are compared with the code's.
NEED_GPU = re.compile(
    r"penstock_gpu_\w+|penstock:gpu_utilisation:avg|penstock:slots_for_utilisation"
    r"|gpu_utilization_percent"
)


def expressions() -> list[str]:
    """Return what the dashboard asks for."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def shows(prometheus: PrometheusServer, expression: str) -> bool:
    """Say whether an expression has a number; NaN is an empty panel."""
    return any(isfinite(float(series["value"][1])) for series in prometheus.query(expression))


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    directory = tmp_path_factory.mktemp("redis")
    with redis_running("redis", directory, aof=True, maxmemory="1gb") as server:
        yield server


@pytest.fixture(scope="module")
def running(
    own_redis: RedisServer,
    receiver: OtlpReceiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("pipeline")
    settings = simulated_settings(
        own_redis,
        database=sqlite_in(directory),
        retention={"start": "archive"},
        lease={"seconds": 1.2, "heartbeat_seconds": 0.3, "sweep_seconds": 0.2},
        redis={"url": own_redis.url, "prefix": "watched", "timeout_seconds": 0.6},
        trace={"endpoint": receiver.endpoint, "export_seconds": 0.2},
    )
    prepare_database(settings)
    asyncio.run(_set_prices(settings))
    with whole_pipeline(settings, directory) as started:
        yield started


async def _set_prices(settings: Settings) -> None:
    database = Database(settings.database, "test")
    await a_price(database, MODEL)
    since = datetime.now(UTC) - timedelta(days=1)
    await set_gpu_rate(database, GpuRate(MODEL, "none", Decimal(3), 16, "USD", since))
    await database.close()


@pytest.fixture(scope="module")
def prometheus(
    running: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusServer]:
    targets = {process.name: metrics_port(process) for process in running.processes}
    directory = tmp_path_factory.mktemp("prometheus") / "server"
    rules = {"recording": shipped("recording"), "alerts": scaled(shipped("alerts"), SCALE)}
    server = PrometheusServer(directory, targets, rules)
    server.start()
    yield server
    server.stop()


def body(prompt: str = "hello") -> dict[str, object]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": 20, "ignore_eos": True}


@asynccontextmanager
async def load(running: Pipeline) -> AsyncIterator[None]:
    """Send jobs of every kind for the length of a block."""

    async def send(client: httpx2.AsyncClient) -> None:
        while True:
            await client.post("/v1/completions", json=body())
            await client.post("/v1/completions", json={**body(), "model": "nope"})
            job = {"url": "/v1/completions", "body": body("[[fault:error-once=3]]")}
            await client.post("/v1/jobs", json={**job, "service_tier": "flex"})
            await asyncio.sleep(0.05)

    async with connect(running.first("api"), make_key(running.settings)) as client:
        sending = asyncio.create_task(send(client))
        try:
            yield
            assert not sending.done(), sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_every_panel_and_every_rule_has_series_from_a_pipeline_under_load(
    running: Pipeline, prometheus: PrometheusServer
) -> None:
    wanted = [e for e in expressions() if not NEED_GPU.search(e)]
    wanted += [r["record"] for r in rules_of("recording") if not NEED_GPU.search(r["record"])]
    assert len(wanted) > 70

    async def missing_none() -> bool:
        missing[:] = [one for one in wanted if not shows(prometheus, one)]
        return not missing

    missing: list[str] = []
    async with load(running):
        try:
            await eventually(missing_none, 45)
        except AssertionError:
            pytest.fail(f"no series for {missing}")
    assert prometheus.unhealthy() == []


def test_what_needs_a_gpu_asks_for_what_the_code_reads() -> None:
    everything = expressions() + [rule["expr"] for rule in rules_of("recording")]
    everything += [rule["expr"] for rule in rules_of("alerts")]
    asked = {name for e in everything for name in re.findall(r"penstock_gpu_\w+", e)}
    assert asked == {name for name, _, _ in READINGS}


async def test_exemplars_lead_from_a_latency_to_its_trace(
    running: Pipeline, prometheus: PrometheusServer, receiver: OtlpReceiver
) -> None:
    async with load(running):

        async def found() -> set[str]:
            names = ("penstock_time_to_first_token_seconds_bucket",
                     "penstock_http_request_seconds_bucket")  # fmt: skip
            shown = [
                {e["labels"]["trace_id"] for e in prometheus.exemplars(name)} for name in names
            ]
            known = {span.trace_id for span in receiver.spans}
            return (shown[0] & known) if shown[1] & known else set()

        assert await eventually(found, 20)


async def test_alerts_fire_when_workers_and_redis_go_and_clear_when_they_are_back(
    running: Pipeline, prometheus: PrometheusServer, own_redis: RedisServer
) -> None:
    alarms = {"PenstockNoWorkers", "PenstockTargetDown", "PenstockRedisAway"}

    async def quiet() -> bool:
        return not prometheus.firing() & alarms

    async def fires(*names: str) -> None:
        async def firing() -> bool:
            return set(names) <= prometheus.firing()

        await eventually(firing, 40)

    await eventually(quiet, 20)
    worker = running.first("worker")
    worker.stop()
    running.processes.remove(worker)
    async with connect(running.first("api"), make_key(running.settings)) as client:
        job = {"url": "/v1/completions", "body": body()}
        submitted = (await client.post("/v1/jobs", json=job)).json()
        await fires("PenstockNoWorkers", "PenstockTargetDown")
        port = worker.settings.worker.health_port
        running.begin_worker(port).wait_until_ready()
        done = await client.get(f"/v1/jobs/{submitted['id']}", params={"wait": 30})
        assert done.json()["status"] == "completed"
    await eventually(quiet, 30)
    own_redis.stop()
    await fires("PenstockRedisAway")
    own_redis.start()
    await eventually(quiet, 30)
