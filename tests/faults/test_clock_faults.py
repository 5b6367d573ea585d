"""The wall clock jumps in all processes but Redis; only Redis's clock decides."""

import ast
import asyncio
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.support.api_case import Case, case, check_stream, settings_of
from tests.support.http_client import Seen, follow, request
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL
from tests.support.waiting import eventually
from tests.support.wall_clock import WallClock

HOUR = 3600
#: Jobs submitted before the clock jumps, between its jumps, and after them.
WAVE = 110


@pytest.mark.timeout(180)
async def test_a_wall_clock_that_jumps_retries_expires_and_loses_no_job(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(redis_server, tmp_path, slots=32, step_seconds=0.004)
    clock = WallClock(tmp_path)
    for name, value in clock.environment().items():
        monkeypatch.setenv(name, value)
    began = time.time()
    async with case(settings, tmp_path, apis=2) as pipe:
        watching: list[asyncio.Task[Seen]] = []
        bodies: dict[str, dict[str, object]] = {}
        for wave, offset in enumerate((0, HOUR, -HOUR)):
            clock.move(offset)
            await eventually(lambda offset=offset: all_believe(pipe, offset))
            for number in range(WAVE):
                # Half an hour: over by one of the clocks, far away by the other.
                limits = {"start_by": time.time() + HOUR / 2, "deadline": time.time() + HOUR / 2}
                job_id, body = await pipe.submit(f"{wave} {number}", 200, **limits)
                bodies[job_id] = body
                watching.append(
                    asyncio.create_task(follow(pipe.fleet.port, pipe.key, Seen(job_id)))
                )
            await eventually(lambda: some_run(pipe))
            await check_what_clients_see(pipe, list(bodies)[-WAVE:], began)
        async with asyncio.timeout(90):
            for seen in await asyncio.gather(*watching):
                check_stream(seen, bodies[seen.job_id])
                assert [event.event for event in seen.events].count("started") == 1
        await check_list(pipe, set(bodies))
        for job_id in bodies:
            job = await pipe.store.get(job_id, "acme")
            assert (job.status, job.attempt, job.failures) == ("completed", 1, 0)
        await check_jobs(pipe.store, bodies)
        await check_nothing_left(pipe.store, MODEL)
        for process in pipe.running.processes:
            assert process.running, process.output()[-3000:]
            assert "Traceback" not in process.output(), process.output()[-3000:]


async def all_believe(pipe: Case, offset: int) -> bool:
    """Whether the wall clock of each API process is this far off, as its answers say."""
    for process in pipe.fleet.processes:
        answer = await request(process.settings.api.port, "GET", "/health", pipe.key)
        told = parsedate_to_datetime(answer.headers["date"]).timestamp()
        if abs(told - time.time() - offset) > HOUR / 4:
            return False
    return True


async def some_run(pipe: Case) -> bool:
    """Whether jobs run, so that the next jump happens in mid-stream."""
    return await pipe.store.redis.zcard(pipe.store.keys.running(MODEL)) > 16


async def check_what_clients_see(pipe: Case, ids: list[str], began: float) -> None:
    """Check that clients see true times and durations, whichever process answers."""
    for job_id in ids:
        answer = await request(pipe.fleet.port(), "GET", f"/v1/jobs/{job_id}", pipe.key)
        job = answer.json
        assert began - 1 < job["created_at"] < time.time() + 1
        assert (job["run_seconds"] or 0) < time.time() - began + 1


async def check_list(pipe: Case, ids: set[str]) -> None:
    """A client that pages finds each job once, although ids bear the stamps of that clock."""
    found: list[str] = []
    after = ""
    while True:
        path = f"/v1/jobs?limit=100{after}"
        page = (await request(pipe.fleet.port(), "GET", path, pipe.key)).json
        found += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert len(found) == len(set(found))
    assert set(found) == ids


#: Where a wall clock is read at all: to stamp an id, a span or a record for people,
STAMPS = {
    *(
        "core/ids.py",
        "core/tracing.py",
        "core/db/tables/base.py",
        "jobs/store/metrics_collector.py",
    ),
    *("workers/service.py", "workers/sweeper.py"),
    # lines of logs, when an operator retired a model, and since when a batch waits, which
    # nothing compares;
    *("api/server/request_log.py", "core/runtime/json_lines.py"),
    *("jobs/store/model_retirement.py", "batches/waiting_notice.py"),
    # and where a standard wants it: keys and tokens (RFC 7519) expire by it.
    *("accounts/caller.py", "accounts/access_tokens.py"),
}
#: to compare it with the date of a row in SQL, of a file or of a sign-in, hours or days away,
DATES = {
    *("batches/line_submitter.py", "batches/result_parts.py", "files/object_store.py"),
    "accounts/sign_in_attempts.py",
}
#: or to know the date, by which prices and months go.
CALENDAR = {
    *("billing/pricing/cost_cache.py", "billing/pricing/prices.py"),
    *("intake/budget_guard.py", "intake/lookup/usage_query.py", "api/routes/billing.py"),
}
FOLDERS = (
    *("core", "jobs", "accounts", "billing/pricing", "wire", "intake", "files", "batches"),
    *("api", "workers"),
)
WALL_CLOCKS = {
    ("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"),
    ("datetime", "today"), ("date", "today"),
}  # fmt: skip


def test_no_lease_deadline_or_retry_is_compared_with_a_wall_clock() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in ROOT.glob(f"{folder}/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in WALL_CLOCKS
    }
    assert found == STAMPS | DATES | CALENDAR
