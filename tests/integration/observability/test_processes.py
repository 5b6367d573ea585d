"""Metrics of real processes: each shows its own, API processes share theirs."""

import asyncio
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.samples import Sample

from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.keys import make_key, prepare_database, sqlite_in
from tests.support.processes import Pipeline, PipelineProcess, connect, pipeline, whole_pipeline
from tests.support.redis_server import RedisServer
from tests.support.scraping import scrape, value
from tests.support.simulated import MODEL, simulated_settings
from tests.support.waiting import eventually

JOB = {
    "url": "/v1/completions",
    "body": {"model": MODEL, "prompt": "hello there", "max_tokens": 20, "ignore_eos": True},
}


@pytest.fixture(scope="module")
def running(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("processes")
    settings = simulated_settings(redis_server, database=sqlite_in(directory))
    with whole_pipeline(settings, directory) as started:
        yield started


class Growth:
    """How much a process's counters have grown since this object was created."""

    def __init__(self, process: PipelineProcess, before: list[Sample]) -> None:
        self._process = process
        self._before = before
        self.after = before

    @classmethod
    async def of(cls, running: Pipeline, name: str) -> "Growth":
        process = running.first(name)
        return cls(process, await scrape(process))

    async def look(self) -> None:
        self.after = await scrape(self._process)

    def __call__(self, name: str, **labels: str) -> float:
        now, before = (value(samples, name, **labels) for samples in (self.after, self._before))
        return (now or 0) - (before or 0)


async def send(running: Pipeline, count: int, prompt: str) -> dict[str, Any]:
    """Run jobs one after the other; return the last as the client sees it."""
    api = running.first("api")
    body = {**JOB, "body": {**JOB["body"], "prompt": prompt}}
    async with connect(api, make_key(api.settings)) as client:
        for _ in range(count):
            answer = await client.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})
            assert answer.json()["status"] == "completed"
        assert (await client.get("/v1/jobs/job_unknown")).status_code == 404
        assert (await client.get("/no/such/route")).status_code == 404
    done: dict[str, Any] = answer.json()
    return done


async def test_a_job_is_measured_once_on_its_way_through(running: Pipeline) -> None:
    front, engine = [await Growth.of(running, name) for name in ("api", "worker")]

    usage = (await send(running, 3, "hello there"))["usage"]

    await front.look()
    await engine.look()

    def http(route: str, method: str, status: str) -> float:
        labels = {"route": route, "method": method, "status": status}
        return front("penstock_http_requests_total", **labels)

    assert http("/v1/jobs", "POST", "200") == 3
    assert http("/v1/jobs/{job_id}", "GET", "404") == 1
    assert http("unmatched", "GET", "404") == 1
    assert front("penstock_http_request_seconds_count", route="/v1/jobs") == 3
    assert front("penstock_event_loop_lag_seconds_count") > 0
    for name in ("queue_wait", "time_to_first_token", "job"):
        assert engine(f"penstock_{name}_seconds_count", model=MODEL, tier="default") == 3, name
    for kind in ("input", "output"):
        counted = engine("penstock_tokens_total", model=MODEL, kind=kind)
        assert counted == 3 * usage[f"{kind}_tokens"], kind
    assert engine("penstock_attempts_total", outcome="completed") == 3
    assert engine("penstock_attempts_total") == 3
    assert value(engine.after, "penstock_worker_ready", model=MODEL) == 1
    assert value(engine.after, "penstock_breaker_state", state="closed") == 1
    assert value(engine.after, "penstock_gpu_utilisation_ratio") is None
    for samples in (front.after, engine.after):
        assert value(samples, "penstock_build_info") == 1
        assert value(samples, "penstock_sweep_seconds_count") is None, "not this process's"


async def test_what_alerts_watch_is_shown_before_it_first_happens(running: Pipeline) -> None:
    """Prometheus sees no increase in a series that begins at its first count."""
    control, ledger, worker = [running.first(name) for name in ("control", "ledger", "worker")]

    async def swept() -> bool:
        labels = {"model": MODEL, "kind": "stalled"}
        return value(await scrape(control), "penstock_swept_total", **labels) is not None

    await eventually(swept)
    samples = await scrape(ledger)
    assert value(samples, "penstock_ledger_events_total", outcome="set_aside") == 0
    assert value(await scrape(worker), "penstock_dead_tickets_total") == 0


async def test_an_attempt_that_fails_is_counted_by_what_became_of_it(running: Pipeline) -> None:
    engine = await Growth.of(running, "worker")

    done = await send(running, 1, "[[fault:error-once=3]] then fine")

    assert done["attempt"] == 1
    await engine.look()
    for outcome in ("retried", "completed"):
        assert engine("penstock_attempts_total", outcome=outcome) == 1
    assert engine("penstock_attempts_total") == 2
    assert engine("penstock_attempt_failures_total", code="engine-error") == 1
    output = engine("penstock_tokens_total", kind="output")
    assert output == done["usage"]["output_tokens"], "none is counted twice"


async def test_api_processes_that_share_a_directory_answer_for_each_other(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(redis_server, database=sqlite_in(tmp_path))
    store = open_store(settings)
    await ModelRegistry(store.redis, store.keys).register(ServedModel(MODEL, 4096, "none", 1))
    await store.close()
    shared = tmp_path / "metrics"
    shared.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared))
    with pipeline(settings, tmp_path) as running:
        one, two = running.api(), running.api()

        async def at_two(name: str, **labels: str) -> float | None:
            return value(await scrape(two), name, **labels)

        key = make_key(running.settings)
        async with connect(one, key) as first, connect(two, key) as second:
            job = (await first.post("/v1/jobs", json=JOB)).json()["id"]
            for client in (first, second, second):
                assert (await client.get("/v1/models")).status_code == 200
            for process in (one, two):
                samples = await scrape(process)
                assert value(samples, "penstock_http_requests_total", route="/v1/models") == 3
            async with first.stream("GET", f"/v1/jobs/{job}/stream") as stream:
                assert stream.status_code == 200
                assert await at_two("penstock_sse_connections") == 1
                one.signal(signal.SIGKILL)
                await asyncio.to_thread(one.wait)
        # Its gauges are gone, its counts stay.
        assert await at_two("penstock_sse_connections") == 0
        assert await at_two("penstock_jobs_submitted_total", model=MODEL) == 1
        assert await at_two("penstock_metrics_files_damaged") == 0
        # Files that a full disk or a crash left behind hide nothing of the others.
        sound = next(shared.glob("counter_*.db")).read_bytes()
        (used,) = struct.unpack_from("i", sound)  # a file's tail is empty, so cut what is used
        for number, content in enumerate((b"", b"\0", b"\xff" * 4096, sound[: used // 2])):
            (shared / f"counter_99999{number}.db").write_bytes(content)
        (shared / "gauge.db").write_bytes(sound)
        assert await at_two("penstock_jobs_submitted_total", model=MODEL) == 1
        assert (await at_two("penstock_metrics_files_damaged") or 0) >= 4
        assert "metrics_file_damaged" in two.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_is_told_to_end_says_so_and_ends_in_order(
    redis_server: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    settings = simulated_settings(redis_server, database=sqlite_in(tmp_path))
    prepare_database(settings)
    with pipeline(settings, tmp_path) as running:
        for process in [running.control(), running.ledger(), running.feeder()]:

            async def started(process: PipelineProcess = process) -> bool:
                return f"{process.name}_started" in process.output()

            await eventually(started, 30)
            process.signal(number)
            assert await asyncio.to_thread(process.wait) == 0, process.output()
            assert f"{process.name}_stopped" in process.output()
            assert "Traceback" not in process.output()
