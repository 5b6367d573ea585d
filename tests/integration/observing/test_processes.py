"""What real processes show: each its own, several API processes for each other."""

import asyncio
import signal
from pathlib import Path

import httpx2
import pytest

from jobs.models import ModelRegistry, ServedModel
from jobs.open import open_store
from jobs.settings import Settings
from tests.conftest import settings_for
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import PipelineProcess, pipeline
from tests.support.redis_server import RedisServer
from tests.support.scraping import scrape, value
from tests.support.simulated import MODEL, simulated_settings

JOB = {
    "url": "/v1/completions",
    "body": {"model": MODEL, "prompt": "hello there", "max_tokens": 20, "ignore_eos": True},
}


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return simulated_settings(redis_server, database=sqlite_in(tmp_path))


def connect(api: PipelineProcess) -> httpx2.AsyncClient:
    key = make_key(api.settings)
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{api.settings.api.port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=20,
    )


async def test_a_job_is_measured_once_on_its_way_through(
    settings: Settings, tmp_path: Path
) -> None:
    with pipeline(settings, tmp_path) as running:
        worker, api = running.worker(), running.api()
        async with connect(api) as client:
            for _ in range(3):
                headers = {"Prefer": "wait=20"}
                done = (await client.post("/v1/jobs", json=JOB, headers=headers)).json()
                assert done["status"] == "completed"
            assert (await client.get("/v1/jobs/job_unknown")).status_code == 404
            assert (await client.get("/no/such/route")).status_code == 404
        usage = done["usage"]

        front, engine = await scrape(api), await scrape(worker)

        def http(route: str, method: str, status: str) -> float | None:
            labels = {"route": route, "method": method, "status": status}
            return value(front, "penstock_http_requests_total", **labels)

        assert http("/v1/jobs", "POST", "2xx") == 3
        assert http("/v1/jobs/{job_id}", "GET", "4xx") == 1
        assert http("unmatched", "GET", "4xx") == 1
        assert value(front, "penstock_http_request_seconds_count", route="/v1/jobs") == 3
        for name in ("queue_wait", "time_to_first_token", "job"):
            count = value(engine, f"penstock_{name}_seconds_count", model=MODEL, tier="default")
            assert count == 3, name
        for kind in ("input", "output"):
            counted = value(engine, "penstock_tokens_total", model=MODEL, kind=kind)
            assert counted == 3 * usage[f"{kind}_tokens"], kind
        assert value(engine, "penstock_attempts_total", outcome="completed") == 3
        assert value(engine, "penstock_attempts_total") == 3
        assert value(engine, "penstock_worker_ready", model=MODEL) == 1
        assert value(engine, "penstock_breaker_state", state="closed") == 1
        assert value(engine, "penstock_gpu_utilisation_ratio") is None
        for samples in (front, engine):
            assert value(samples, "penstock_build_info") == 1
            assert value(samples, "penstock_sweep_seconds_count") is None, "not this process's"


async def test_an_attempt_that_fails_is_counted_by_what_became_of_it(
    settings: Settings, tmp_path: Path
) -> None:
    prompt = "[[fault:error-once=3]] then fine"
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker, api = running.worker(), running.api()
        async with connect(api) as client:
            body = {**JOB, "body": {**JOB["body"], "prompt": prompt}}  # type: ignore[dict-item]
            done = await client.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})
        assert done.json()["attempt"] == 2
        samples = await scrape(worker)
        outcomes = {
            s.labels["outcome"]: s.value for s in samples if s.name == "penstock_attempts_total"
        }
        assert outcomes == {"retried": 1, "completed": 1}
        failures = "penstock_attempt_failures_total"
        assert value(samples, failures, code="engine-error") == 1
        output = value(samples, "penstock_tokens_total", kind="output")
        assert output == done.json()["usage"]["output_tokens"], "none is counted twice"


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

        async with connect(one) as first, connect(two) as second:
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
