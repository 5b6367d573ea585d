"""Batches: each request is in one result file once, for every bad input and job outcome."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
from sqlalchemy import insert, select

from accounts.api_keys import KeyFilter, NewKey
from accounts.bounds import Rank
from accounts.directory_factory import directory_of
from batches import ids as batch_ids
from core.db.database import Database
from core.db.tables.webhooks import WebhookEndpointRow, WebhookEventRow
from core.settings.tree import Settings
from files.object_store import ObjectStore
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    CONTEXT,
    MODEL,
    FilesOnS3,
    Hand,
    RunningApi,
    answering,
    connect,
)
from tests.support.batches import (
    answering_all,
    check_whole,
    create,
    feeding,
    line,
    lines,
    read,
    results,
    until,
    upload,
)
from tests.support.keys import make_key
from tests.support.waiting import eventually

pytestmark = pytest.mark.settings(
    batches__look_seconds=0.05, batches__flush_seconds=0.1, batches__max_lines=300
)


# --- the whole way ----------------------------------------------------------------------------


async def test_openais_client_runs_a_batch_and_reads_its_results(
    ai: openai.AsyncOpenAI, settings: Settings, store: JobStore
) -> None:
    content = lines(20, MODEL) + line("bad", MODEL, prompt="please fail")
    file = await ai.files.create(file=("in.jsonl", content), purpose="batch")
    made = await ai.batches.create(
        input_file_id=file.id,
        endpoint="/v1/completions",
        completion_window="24h",
        metadata={"run": "7"},
    )
    assert (made.object, made.status, made.metadata) == ("batch", "validating", {"run": "7"})
    assert (made.endpoint, made.completion_window) == ("/v1/completions", "24h")
    assert made.expires_at == made.created_at + 86_400
    async with feeding(settings), answering_all(store, MODEL):

        async def done() -> bool:
            return (await ai.batches.retrieve(made.id)).status == "completed"

        await eventually(done)
    batch = await ai.batches.retrieve(made.id)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 21, "completed": 20, "failed": 1}
    assert batch.errors is None
    assert made.created_at <= (batch.in_progress_at or 0) <= (batch.finalizing_at or 0)
    assert (batch.finalizing_at or 0) <= (batch.completed_at or 0)
    assert batch.output_file_id
    text = (await ai.files.content(batch.output_file_id)).text
    answers = [orjson.loads(raw) for raw in text.splitlines()]
    assert {one["custom_id"] for one in answers} == {f"r{number}" for number in range(20)}
    for one in answers:
        assert one["response"]["status_code"] == 200
        said = one["response"]["body"]["choices"][0]["text"]
        assert said == f"echo say {one['custom_id']}"
        assert one["response"]["body"]["service_tier"] == "flex"
        assert one["response"]["request_id"] == one["id"]
    assert batch.error_file_id
    (error,) = [orjson.loads((await ai.files.content(batch.error_file_id)).content)]
    assert error["custom_id"] == "bad"
    assert error["response"]["status_code"] == 500
    assert error["response"]["body"]["error"]["code"] == "engine_error"
    output = await ai.files.retrieve(batch.output_file_id)
    assert output.purpose == "batch_output"
    assert output.filename == f"{batch.id}_output.jsonl"
    assert [one.id async for one in ai.batches.list()] == [batch.id]


async def test_chat_is_answered_as_chat(
    client: httpx2.AsyncClient, settings: Settings, hand: Hand
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    content = orjson.dumps(
        {"custom_id": "r0", "method": "POST", "url": "/v1/chat/completions", "body": body}
    )
    made = await create(client, content, endpoint="/v1/chat/completions")
    async with feeding(settings), answering(hand, "Hi") as taken:
        batch = await until(client, made["id"])
    (one,) = await results(client, batch["output_file_id"])
    assert one["response"]["body"]["choices"][0]["message"]["content"] == "Hi"
    assert batch["model"] == MODEL
    assert taken[0].spec.service_tier == "flex"
    await check_whole(client, batch, 1)


async def test_jobs_have_ids_that_follow_from_the_batch(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    made = await create(client, lines(3, MODEL))
    async with feeding(settings), answering_all(store, MODEL) as taken:
        await until(client, made["id"])
    assert sorted(taken) == sorted(batch_ids.job_id(made["id"], index) for index in range(3))
    job = await store.get(taken[0], "acme")
    assert job.deadline == pytest.approx(made["expires_at"] * 1000, abs=1_000)
    assert (await client.get(f"/v1/jobs/{taken[0]}")).status_code == 200


@pytest.mark.settings(batches__window=8)
async def test_a_window_bounds_what_is_in_the_queue(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    made = await create(client, lines(40, MODEL))
    async with feeding(settings):

        async def full() -> bool:
            return await store.redis.zcard(store.keys.queued(MODEL)) == 8

        await eventually(full)
        await asyncio.sleep(0.3)
        assert await full(), "the window is all that waits"
        async with answering_all(store, MODEL):
            batch = await until(client, made["id"])
    assert batch["status"] == "completed"
    await check_whole(client, batch, 40)


@pytest.mark.settings(queue__max_queued=5)
async def test_a_queue_that_is_full_is_waited_for(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    made = await create(client, lines(30, MODEL))
    async with feeding(settings), answering_all(store, MODEL):
        batch = await until(client, made["id"], timeout=60)
    assert batch["status"] == "completed"
    await check_whole(client, batch, 30)


async def test_another_accounts_batch_looks_unknown(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    made = await create(client, lines(1, MODEL))
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = await other.request(method, f"/v1/batches/{made['id']}{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "batch_not_found"
    assert (await other.get("/v1/batches")).json()["data"] == []
    foreign = {
        "input_file_id": made["input_file_id"],
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    answer = await other.post("/v1/batches", json=foreign)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")
    assert (await read(client, made["id"]))["status"] == "validating"


WRONG_FIELDS: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"endpoint": "/v1/audio"}, 400, "endpoint"),
    ({"completion_window": "25 hours"}, 400, "completion_window"),
    ({"completion_window": "30d"}, 400, "completion_window"),
    ({"completion_window": 24}, 400, "completion_window"),
    ({"input_file_id": None}, 400, "input_file_id"),
    ({"input_file_id": "file_" + "0" * 32}, 404, "file_id"),
    ({"metadata": {"k" * 65: "v"}}, 400, "metadata"),
    ({"metadata": {str(n): "v" for n in range(17)}}, 400, "metadata"),
    (
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        400,
        "output_expires_after.seconds",
    ),
    ({"colour": "red"}, 400, "colour"),
)


async def test_a_wrong_field_is_named(client: httpx2.AsyncClient) -> None:
    file_id = await upload(client, lines(1, MODEL))
    right = {
        "input_file_id": file_id,
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    for fields, status, param in WRONG_FIELDS:
        answer = await client.post("/v1/batches", json=right | fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), fields
    assert (await client.get("/v1/batches")).json()["data"] == []


@pytest.mark.settings(batches__max_open_per_account=2)
async def test_only_so_many_batches_may_be_open(client: httpx2.AsyncClient) -> None:
    for _ in range(2):
        await create(client, lines(1, MODEL))
    asked = {
        "input_file_id": await upload(client, lines(1, MODEL)),
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    answer = await client.post("/v1/batches", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_batches")
    assert int(answer.headers["retry-after"]) > 0


async def test_an_idempotency_key_makes_one_batch(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    file_id = await upload(client, lines(1, MODEL))
    asked = {
        "input_file_id": file_id,
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    headers = {"Idempotency-Key": "order-17"}
    answers = await asyncio.gather(
        *(client.post("/v1/batches", json=asked, headers=headers) for _ in range(8))
    )
    assert {one.status_code for one in answers} == {200}
    assert len({one.json()["id"] for one in answers}) == 1
    assert sum("idempotency-replayed" in one.headers for one in answers) == 7
    assert len((await client.get("/v1/batches")).json()["data"]) == 1
    changed_body = {**asked, "completion_window": "12h"}
    wrong = await client.post("/v1/batches", json=changed_body, headers=headers)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "idempotency_mismatch")
    foreign = {**asked, "input_file_id": await upload(other, lines(1, MODEL))}
    assert (await other.post("/v1/batches", json=foreign, headers=headers)).status_code == 200
    await client.delete(f"/v1/files/{file_id}")
    late = await client.post("/v1/batches", json=asked, headers=headers)
    assert (late.status_code, late.json()["id"]) == (200, answers[0].json()["id"])


async def test_lists_go_on_after_a_cursor(client: httpx2.AsyncClient) -> None:
    ids = [(await create(client, lines(1, MODEL)))["id"] for _ in range(3)]
    page = (await client.get("/v1/batches", params={"limit": 2})).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = (await client.get("/v1/batches", params={"after": page["last_id"]})).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    wrong = await client.get("/v1/batches", params={"after": "file_1"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


@pytest.mark.settings(batches__at_once_per_account=2)
async def test_one_accounts_batches_leave_room_for_anothers(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    many = [await create(client, lines(1, MODEL)) for _ in range(4)]
    one = await create(other, lines(1, MODEL))
    async with feeding(settings):
        for batch in many[:2]:
            await until(client, batch["id"], "in_progress")
        await until(other, one["id"], "in_progress")
        for batch in many[2:]:
            assert (await read(client, batch["id"]))["status"] == "validating", "not its turn"
        await client.post(f"/v1/batches/{many[3]['id']}/cancel")
        assert (await until(client, many[3]["id"]))["status"] == "cancelled", "at once, out of turn"
        async with answering_all(store, MODEL):
            for batch in many[:3]:
                assert (await until(client, batch["id"]))["status"] == "completed"
            assert (await until(other, one["id"]))["status"] == "completed"


class TestOnS3(FilesOnS3):
    async def test_a_batch_on_s3_is_as_whole_as_in_a_folder(
        self, client: httpx2.AsyncClient, settings: Settings, store: JobStore
    ) -> None:
        made = await create(client, lines(30, MODEL))
        objects = ObjectStore(settings.files)

        async def no_part_left() -> bool:
            folder = batch_ids.parts_folder(made["id"])
            return not [one async for page in objects.listed(folder) for one in page]

        async with feeding(settings), answering_all(store, MODEL):
            batch = await until(client, made["id"])
            await eventually(no_part_left)
        assert batch["status"] == "completed"
        await check_whole(client, batch, 30)


# --- what is wrong with files -----------------------------------------------------------------

GOOD = line("ok", MODEL)


def changed(**fields: Any) -> bytes:
    return orjson.dumps({**orjson.loads(GOOD), **fields}) + b"\n"


def without(name: str) -> bytes:
    return orjson.dumps({k: v for k, v in orjson.loads(GOOD).items() if k != name}) + b"\n"


BROKEN_LINES: tuple[tuple[bytes, int, str, str | None], ...] = (
    (GOOD + b"{broken\n" + line("b", MODEL), 2, "invalid_json_line", None),
    (GOOD + b"\xff\xfe{}\n", 2, "invalid_json_line", None),
    (GOOD + b"[1]\n", 2, "invalid_json_line", None),
    (b"\n\n" + GOOD + b"\n" + b"nope", 5, "invalid_json_line", None),
    (GOOD + line("b", MODEL) + GOOD, 3, "duplicate_custom_id", "custom_id"),
    (without("custom_id"), 1, "missing_required_parameter", "custom_id"),
    (changed(custom_id=""), 1, "invalid_custom_id", "custom_id"),
    (changed(custom_id=7), 1, "invalid_custom_id", "custom_id"),
    (changed(custom_id="x" * 513), 1, "invalid_custom_id", "custom_id"),
    (changed(method="GET"), 1, "invalid_method", "method"),
    (without("url"), 1, "invalid_url", "url"),
    (changed(url="/v1/chat/completions"), 1, "mismatched_url", "url"),
    (changed(url="/v1/nothing"), 1, "invalid_url", "url"),
    (changed(colour="red"), 1, "unknown_parameter", "colour"),
    (without("body"), 1, "invalid_request", "body"),
    (changed(body={"model": MODEL, "prompt": 7}), 1, "invalid_request", "body.prompt"),
    (changed(body={"model": MODEL}), 1, "invalid_request", "body.prompt"),
    (line("a", "nobody"), 1, "model_not_found", "body.model"),
    (line("a", MODEL, max_tokens=CONTEXT + 1), 1, "context_length_exceeded", "body.max_tokens"),
)


async def test_a_broken_line_is_named_and_nothing_runs(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    made = [(await create(client, content))["id"] for content, *_ in BROKEN_LINES]
    async with feeding(settings):
        batches = [await until(client, batch_id) for batch_id in made]
    for batch, (content, number, code, param) in zip(batches, BROKEN_LINES, strict=True):
        assert batch["status"] == "failed", content
        assert batch["failed_at"]
        (complaint,) = batch["errors"]["data"]
        found = complaint["line"], complaint["code"], complaint["param"]
        assert found == (number, code, param), content
        assert complaint["message"]
        assert batch["output_file_id"] is None
    assert await store.redis.zcard(store.keys.queued(MODEL)) == 0


async def test_a_duplicate_is_named_with_both_lines(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = await create(client, GOOD + line("b", MODEL) + b"\n" + GOOD)
    async with feeding(settings):
        batch = await until(client, made["id"])
    assert "lines 1 and 4" in batch["errors"]["data"][0]["message"]


@pytest.mark.settings(batches__max_errors=5)
async def test_every_broken_line_is_named_up_to_a_bound(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = await create(client, b"{\n" * 9 + GOOD)
    async with feeding(settings):
        batch = await until(client, made["id"])
    complaints = batch["errors"]["data"]
    assert [one["line"] for one in complaints] == [1, 2, 3, 4, 5, None]
    assert (complaints[-1]["code"], complaints[-1]["message"][:12]) == (
        "more_errors",
        "4 more lines",
    )


@pytest.mark.settings(limits__body_bytes=2_000)
async def test_a_line_that_is_too_long_is_named(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = await create(client, GOOD + line("b", MODEL, prompt="x" * 3_000) + line("c", MODEL))
    async with feeding(settings):
        batch = await until(client, made["id"])
    (complaint,) = batch["errors"]["data"]
    assert (complaint["line"], complaint["code"]) == (2, "line_too_long")


@pytest.mark.parametrize("content", [b"\n", b"\xef\xbb\xbf\r\n \n"])
async def test_a_file_without_requests_is_empty(
    client: httpx2.AsyncClient, settings: Settings, content: bytes
) -> None:
    made = await create(client, content)
    async with feeding(settings):
        batch = await until(client, made["id"])
    assert batch["errors"]["data"][0]["code"] == "empty_file"


async def test_more_requests_than_allowed_are_refused(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = await create(client, lines(301, MODEL))
    async with feeding(settings):
        batch = await until(client, made["id"])
    assert [one["code"] for one in batch["errors"]["data"]] == ["too_many_requests"]


async def test_a_byte_order_mark_and_windows_line_ends_are_passed_over(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    content = b"\xef\xbb\xbf" + lines(3, MODEL).replace(b"\n", b"\r\n").rstrip()
    made = await create(client, content)
    async with feeding(settings), answering_all(store, MODEL):
        batch = await until(client, made["id"])
    assert batch["status"] == "completed"
    await check_whole(client, batch, 3)


async def test_a_file_deleted_in_the_middle_is_read_to_its_end(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    made = await create(client, lines(40, MODEL), metadata={"window": "small"})
    async with feeding(settings):
        await until(client, made["id"], "in_progress")
        deleted = await client.delete(f"/v1/files/{made['input_file_id']}")
        assert deleted.json()["deleted"]
        gone = await client.get(f"/v1/files/{made['input_file_id']}/content")
        assert gone.status_code == 404
        async with answering_all(store, MODEL):
            batch = await until(client, made["id"])
    assert batch["status"] == "completed"
    await check_whole(client, batch, 40)


async def test_bytes_that_vanish_fail_the_batch_with_what_is_done(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = await create(client, lines(3, MODEL))
    folder = Path(settings.files.url.get_secret_value().removeprefix("file://"))
    (folder / "files" / made["input_file_id"]).unlink()
    async with feeding(settings):
        batch = await until(client, made["id"])
    assert batch["status"] == "failed"
    assert batch["errors"]["data"][0]["code"] == "input_file_missing"


# --- ending early -----------------------------------------------------------------------------


async def test_a_cancelled_batch_keeps_what_is_done_and_stops_the_rest(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore, hand: Hand
) -> None:
    made = await create(client, lines(30, MODEL), metadata={"window": "8"})
    async with feeding(settings):
        async with answering(hand, "done", jobs=3):
            pass
        running = await hand.take()
        first = await client.post(f"/v1/batches/{made['id']}/cancel")
        assert first.json()["status"] == "cancelling"

        async def told() -> bool:
            return bool((await store.get(running.id, "acme")).cancel_requested)

        await eventually(told)
        await hand.finish(running, Status.CANCELLED)
        batch = await until(client, made["id"])
        again = await client.post(f"/v1/batches/{made['id']}/cancel")
    assert (batch["status"], again.json()["status"]) == ("cancelled", "cancelled")
    assert batch["cancelling_at"]
    assert batch["cancelled_at"]
    assert batch["request_counts"]["completed"] == 3
    await check_whole(client, batch, 30)
    errors = await results(client, batch["error_file_id"])
    assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    assert await store.redis.zcard(store.keys.queued(MODEL)) == 0


async def test_a_batch_cancelled_before_it_was_validated_just_ends(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = await create(client, lines(3, MODEL))
    await client.post(f"/v1/batches/{made['id']}/cancel")
    async with feeding(settings):
        batch = await until(client, made["id"])
    assert batch["status"] == "cancelled"
    assert batch["output_file_id"] is None


async def test_a_finished_batch_cannot_be_cancelled(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    made = await create(client, lines(1, MODEL))
    async with feeding(settings), answering_all(store, MODEL):
        await until(client, made["id"])
    answer = await client.post(f"/v1/batches/{made['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "batch_conflict")


async def test_what_is_not_done_when_the_window_ends_expires(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore, hand: Hand
) -> None:
    made = await create(client, lines(20, MODEL), completion_window="3s")
    async with feeding(settings):
        async with answering(hand, "in time", jobs=2):
            pass
        batch = await until(client, made["id"])
    assert batch["status"] == "expired"
    assert batch["expired_at"]
    assert batch["request_counts"] == {"total": 20, "completed": 2, "failed": 18}
    await check_whole(client, batch, 20)
    errors = await results(client, batch["error_file_id"])
    assert {one["error"]["code"] for one in errors} == {"batch_expired"}
    assert await store.redis.zcard(store.keys.queued(MODEL)) == 0


async def test_a_job_its_client_cancels_or_erases_is_said_to_be(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore, hand: Hand
) -> None:
    made = await create(client, lines(2, MODEL))
    jobs = [batch_ids.job_id(made["id"], index) for index in range(2)]

    async def queued() -> bool:
        return await store.redis.zcard(store.keys.queued(MODEL)) == 2

    async with feeding(settings):
        await eventually(queued)
    await client.post(f"/v1/jobs/{jobs[0]}/cancel")
    async with answering(hand, "gone soon"):
        pass
    await client.delete(f"/v1/jobs/{jobs[1]}")
    async with feeding(settings):
        batch = await until(client, made["id"])
    assert batch["status"] == "completed"
    await check_whole(client, batch, 2)
    errors = await results(client, batch["error_file_id"])
    codes = {one["custom_id"]: one["response"]["body"]["error"]["code"] for one in errors}
    assert codes == {"r0": "job_cancelled", "r1": "job_gone"}
    assert await store.redis.zcard(store.keys.queued(MODEL)) == 0, "it did not run again"
    assert (await store.get(jobs[0], "acme")).status is Status.CANCELLED


# --- who made it, and who listens -------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "status"),
    [({}, 401), ({"role": "viewer"}, 403), ({"routes": ["files", "jobs"]}, 403)],
    ids=["revoked", "role", "routes"],
)
@pytest.mark.settings(batches__window=8)
async def test_a_batch_does_no_more_than_its_key_may_at_the_moment(
    client: httpx2.AsyncClient,
    api: RunningApi,
    settings: Settings,
    store: JobStore,
    taken: dict[str, Any],
    status: int,
) -> None:
    async with directory_of(settings, "test") as directory:
        made = await directory.keys.create("test", NewKey("acme"))
        async with connect(api, made.secret) as own:
            batch = await create(own, lines(30, MODEL), metadata={"window": "8"})
        async with feeding(settings):

            async def full() -> bool:
                return await store.redis.zcard(store.keys.queued(MODEL)) == 8

            await eventually(full)
            if taken:
                rank = Rank.OPERATOR
                await directory.keys.change("test", made.row.id, KeyFilter(None), taken, rank)
            else:
                await directory.keys.revoke("test", made.row.id, KeyFilter(None))
            # A key is remembered for less than a second.
            await asyncio.sleep(1.0)
            async with answering_all(store, MODEL):
                ended = await until(client, batch["id"])
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 30, "completed": 8, "failed": 22}
    await check_whole(client, ended, 30)
    errors = await results(client, ended["error_file_id"])
    assert {one["response"]["status_code"] for one in errors} == {status}


async def test_a_model_the_key_may_not_use_is_named_before_anything_runs(
    client: httpx2.AsyncClient, api: RunningApi, settings: Settings
) -> None:
    key = make_key(settings, "acme", models=["another"])
    async with connect(api, key) as own:
        batch = await create(own, lines(1, MODEL))
    async with feeding(settings):
        ended = await until(client, batch["id"])
    (complaint,) = ended["errors"]["data"]
    assert (complaint["line"], complaint["code"]) == (1, "model_forbidden")


async def test_each_end_of_a_batch_is_told_to_who_listens_once(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    database = Database(settings.database, "test")
    endpoint = {
        "id": "whe_1",
        "account_id": "acme",
        "url": "https://hooks.example.com/in",
        "secret": "whsec_c2VjcmV0",
        "events": ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired"],
    }
    async with database.write() as connection:
        await connection.execute(insert(WebhookEndpointRow), [endpoint])
    ends = {
        "completed": await create(client, lines(1, MODEL)),
        "failed": await create(client, b"{broken"),
        "cancelled": await create(client, lines(1, MODEL)),
    }
    await client.post(f"/v1/batches/{ends['cancelled']['id']}/cancel")
    async with feeding(settings), answering_all(store, MODEL):
        for status, batch in ends.items():
            assert (await until(client, batch["id"]))["status"] == status
    ends["expired"] = await create(client, lines(1, MODEL), completion_window="1s")
    async with feeding(settings):
        assert (await until(client, ends["expired"]["id"]))["status"] == "expired"
    async with database.read() as connection:
        rows = (await connection.execute(select(WebhookEventRow.payload))).scalars().all()
    await database.close()
    told = [orjson.loads(row) for row in rows]
    assert {one["type"]: one["data"]["id"] for one in told} == {
        f"batch.{status}": batch["id"] for status, batch in ends.items()
    }
    assert len(told) == 4
    for one in told:
        shown = await read(client, one["data"]["id"])
        assert one["data"] == shown, "what listens is told what a client sees"
