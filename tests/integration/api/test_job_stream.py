"""A job's event stream: every cursor, every kind of disconnect, and slow readers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from accounts.api_keys import EVERYBODY, NewKey
from accounts.bounds import Rank
from accounts.directory_factory import directory_of
from core.errors import RunTimeout
from core.settings.tree import Settings
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    Hand,
    OnSharedApi,
    RunningApi,
    chat_job,
    connect,
    read_stream,
    says,
    status_of,
    submit,
    until_status,
)
from tests.support.sse import SseEvent, parse_sse
from tests.support.waiting import eventually

WORDS = ("one", " two", " three")


async def finished_job(client: httpx2.AsyncClient, hand: Hand) -> str:
    """Return a completed job: started, 3 words, the end of the choice, finished."""
    job_id = await submit(client)
    await hand.answer(await hand.take(), *WORDS)
    return job_id


def text_of(events: list[SseEvent]) -> str:
    return "".join(event.json["text"] for event in events if event.event == "delta")


async def test_a_finished_job_replays_whole_and_says_done(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await finished_job(client, hand)
    response, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-penstock-job"] == job_id
    assert response.text.startswith("retry: 2000\nid: 1\n")
    assert [event.event for event in events] == [
        "started", "delta", "delta", "delta", "delta", "finished", "done",
    ]  # fmt: skip
    assert [event.id for event in events] == ["1", "2", "3", "4", "5", "6", "6"]
    assert [event.json.get("sequence_number") for event in events[:-1]] == [1, 2, 3, 4, 5, 6]
    assert text_of(events) == "one two three"
    assert events[-2].json["usage"]["output_tokens"] == 3
    assert events[-1].json == {"id": job_id, "status": "completed", "trace_id": None}


async def test_every_cursor_resumes_after_itself(client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await finished_job(client, hand)
    _, whole = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    for cursor in range(6):
        headers = {"Last-Event-ID": str(cursor)}
        _, rest = await read_stream(client, f"/v1/jobs/{job_id}/stream", headers=headers)
        assert rest == whole[cursor:]
    over = await client.get(f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": "6"})
    assert (over.status_code, over.content) == (204, b"")


async def test_the_header_wins_over_the_queries(client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await finished_job(client, hand)
    path = f"/v1/jobs/{job_id}/stream"
    both = {"lastEventID": "4", "starting_after": "2"}
    _, events = await read_stream(client, path, params=both, headers={"Last-Event-ID": "5"})
    assert events[0].id == "6"
    _, events = await read_stream(client, path, params=both)
    assert events[0].id == "5"
    _, events = await read_stream(client, path, params={"starting_after": "2"})
    assert events[0].id == "3"


async def test_a_live_job_is_followed_event_by_event(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    got = ""
    async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as response:
        chunks = response.aiter_text()

        async def until(text: str) -> None:
            nonlocal got
            while text not in got:
                got += await anext(chunks)

        job = await hand.take()
        await until("event: started")
        for word in WORDS:
            await hand.say(job, word)
            await until(word)
        await hand.finish(job)
        await until("event: done")
    assert text_of(parse_sse(got)) == "one two three"


async def test_a_dropped_stream_resumes_without_loss_or_repeat(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    seen: list[SseEvent] = []
    for word in ("a", "b", "c", "d"):
        await hand.say(job, word)
        cursor = seen[-1].id if seen else "0"
        got = ""
        async with client.stream(
            "GET", f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": cursor}
        ) as response:
            async for chunk in response.aiter_text():
                got += chunk
                if f'"{word}"' in got:
                    break
        seen += parse_sse(got)
    await hand.finish(job)
    _, rest = await read_stream(
        client, f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": seen[-1].id}
    )
    assert [int(event.id) for event in seen + rest[:-1]] == [1, 2, 3, 4, 5, 6]
    assert text_of(seen + rest) == "abcd"


async def test_another_api_process_resumes_the_stream(
    client: httpx2.AsyncClient,
    hand: Hand,
    start_api: Callable[[], RunningApi],
    api: RunningApi,
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    await hand.say(job, "one")
    got = ""
    async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as response:
        async for chunk in response.aiter_text():
            got += chunk
            if "one" in got:
                api.begin_stop()
    events = parse_sse(got)
    assert events[-1].event == "error"
    assert events[-1].json["code"] == "shutting-down"
    second = start_api()
    await hand.say(job, " two")
    reading = asyncio.create_task(
        read_stream(
            client,
            f"{second.url}/v1/jobs/{job_id}/stream",
            headers={"Last-Event-ID": events[-1].id},
        )
    )
    await hand.finish(job)
    _, rest = await reading
    assert text_of(events + rest) == "one two"


@pytest.mark.parametrize(
    "mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r\n", "\r"]
)
async def test_line_separators_in_text_survive(
    client: httpx2.AsyncClient, hand: Hand, mark: str
) -> None:
    job_id = await submit(client)
    await hand.answer(await hand.take(), f"a{mark}b")
    _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    assert text_of(events) == f"a{mark}b"
    raw = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert raw["result"]["choices"][0]["message"]["content"] == f"a{mark}b"


@pytest.mark.settings(stream__ping_seconds=0.1)
async def test_a_silent_stream_is_kept_alive_by_pings(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    got = ""
    async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as response:
        async for chunk in response.aiter_text():
            got += chunk
            if got.count("\n: ping\n") == 2:
                break
    assert await status_of(client, job_id) == "queued"


@pytest.mark.settings(stream__ping_seconds=0.1, limits__sync_seconds=0.3)
async def test_a_silent_stream_ends_at_last_and_may_be_resumed(client: httpx2.AsyncClient) -> None:
    job_id = await submit(client)
    _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    assert [event.event for event in events] == ["error"]
    assert events[0].json["code"] == "wait-timeout"
    assert await status_of(client, job_id) == "queued"


async def test_a_hole_in_the_replay_is_said(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore
) -> None:
    job_id = await finished_job(client, hand)
    await store.redis.xdel(store.keys.log(job_id), "1-0", "2-0", "3-0")
    response, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    assert response.headers["last-event-id"] == "3"
    assert events[0].event == "replay_truncated"
    assert events[0].json == {
        "requested_after": 0, "first_available": 4, "sequence_number": 3,
    }  # fmt: skip
    assert [event.id for event in events] == ["3", "4", "5", "6", "6"]
    response, events = await read_stream(
        client, f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": "3"}
    )
    assert "last-event-id" not in response.headers
    assert events[0].id == "4"


async def test_a_lost_log_ends_at_once(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore
) -> None:
    job_id = await finished_job(client, hand)
    await store.redis.delete(store.keys.log(job_id))
    response, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    assert response.headers["last-event-id"] == "6"
    assert [event.event for event in events] == ["replay_truncated", "done"]


async def test_a_failed_job_streams_the_same_error_as_its_object(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    await hand.finish(await hand.take(), Status.EXPIRED, RunTimeout("too long"))
    _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    assert events[-2].event == "finished"
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert events[-2].json["error"] == job["error"]
    assert job["error"]["code"] == "run-timeout"


async def test_a_restart_is_passed_on(client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await submit(client)
    job = await hand.take()
    await hand.say(job, "old")
    await hand.write(job, ("restarted", {}))
    await hand.answer(job, "new")
    _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
    kinds = [event.event for event in events]
    assert kinds == ["started", "delta", "restarted", "delta", "delta", "finished", "done"]
    assert events[2].json == {"sequence_number": 3}
    job_object = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert job_object["result"]["choices"][0]["message"]["content"] == "new"


@pytest.mark.parametrize(("policy", "expected"), [("cancel", "cancelled"), ("continue", "queued")])
async def test_the_last_stream_left_obeys_the_jobs_policy(
    client: httpx2.AsyncClient, policy: str, expected: str
) -> None:
    job_id = await submit(client, on_disconnect=policy)
    async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as first:
        assert first.status_code == 200
        async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as second:
            assert second.status_code == 200
        assert await status_of(client, job_id) == "queued"
    await until_status(client, job_id, expected)


async def test_a_slow_reader_gets_everything_in_the_end(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    texts = [f"{number:06d}" for number in range(3000)]
    async with client.stream("GET", f"/v1/jobs/{job_id}/stream") as response:
        for start in range(0, len(texts), 100):
            batch = texts[start : start + 100]
            await hand.write(job, *(("delta", says(text)) for text in batch))
        await hand.finish(job)
        got = (await response.aread()).decode()
    events = parse_sse(got)
    assert text_of(events) == "".join(texts)
    assert [int(event.id) for event in events[:-1]] == list(range(1, 3003))


@pytest.mark.settings(stream__send_timeout_seconds=0.3)
async def test_a_stuck_reader_is_cut_and_its_job_goes_on(
    client: httpx2.AsyncClient, hand: Hand, api: RunningApi, keys: Any
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    port = int(api.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(
        f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {keys.acme}\r\n\r\n".encode()
    )
    await reader.readuntil(b"event: started")

    async def cut() -> bool:
        await hand.write(job, *(("delta", says("x" * 50_000)) for _ in range(20)))
        return "penstock_sse_connections 0.0" in (await client.get("/metrics")).text

    await eventually(cut, 30)
    writer.close()
    assert await hand.finish(job) == "finished"
    assert await status_of(client, job_id) == "completed"


async def test_the_queue_stays_open_while_streams_are(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    ids = [await submit(client) for _ in range(20)]

    async def follow(job_id: str) -> str:
        _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")
        return text_of(events)

    following = [asyncio.create_task(follow(job_id)) for job_id in ids]
    for _ in ids:
        job = await hand.take()
        await hand.answer(job, job.id[-4:], "!")
    assert await asyncio.gather(*following) == [f"{job_id[-4:]}!" for job_id in ids]
    assert (await client.post("/v1/jobs", json=chat_job())).status_code == 202


async def read_until(word: str, received: AsyncIterator[str]) -> str:
    """Read a stream until it has shown a word; return what it has shown."""
    got = ""
    while word not in got:
        got += await anext(received)
    return got


@pytest.mark.parametrize("why", ["revoked", "suspended", "expired", "role"])
async def test_who_may_not_call_any_more_is_told_nothing_more(
    client: httpx2.AsyncClient, api: RunningApi, settings: Settings, hand: Hand, why: str
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    async with directory_of(settings, "test") as directory:
        made = await directory.keys.create("test", NewKey("acme"))
        async with (
            asyncio.timeout(15),
            connect(api, made.secret) as own,
            own.stream("GET", f"/v1/jobs/{job_id}/stream") as response,
        ):
            received = response.aiter_text()
            await hand.say(job, "one")
            got = await read_until("one", received)
            changes = {
                "expired": {"expires_at": datetime.now(UTC)},
                "role": {"role": "billing"},
            }
            if why == "revoked":
                await directory.keys.revoke("test", made.row.id, EVERYBODY)
            elif why == "suspended":
                await directory.accounts.suspend("test", "acme", suspended=True)
            else:
                rank = Rank.OPERATOR
                await directory.keys.change("test", made.row.id, EVERYBODY, changes[why], rank)
            # A key is remembered for less than a second.
            await asyncio.sleep(1.0)
            await hand.say(job, "two")
            async for text in received:
                got += text
    *_, last = parse_sse(got)
    assert last.event == "error"
    assert last.json["status"] == (401 if why in ("revoked", "expired") else 403)
    assert "two" not in got


async def test_signing_out_ends_what_a_person_watches(
    client: httpx2.AsyncClient, api: RunningApi, hand: Hand
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    person = {"email": "ann@example.com", "password": "correct horse battery"}
    assert (await client.post("/v1/users", json=person)).status_code == 201
    session = (await client.post("/v1/auth/login", json=person)).json()
    async with (
        asyncio.timeout(15),
        connect(api, session["access_token"]) as own,
        own.stream("GET", f"/v1/jobs/{job_id}/stream") as response,
    ):
        received = response.aiter_text()
        await hand.say(job, "one")
        got = await read_until("one", received)
        await client.post("/v1/auth/logout", json={"refresh_token": session["refresh_token"]})
        await asyncio.sleep(1.0)
        await hand.say(job, "two")
        async for text in received:
            got += text
    assert parse_sse(got)[-1].json["code"] == "session-over"
    assert "two" not in got


class TestOnSharedApi(OnSharedApi):
    @pytest.mark.parametrize("where", ["Last-Event-ID", "lastEventID", "starting_after"])
    @pytest.mark.parametrize("cursor", ["7", "999999999999999", "-1", "x", "1.5", "9" * 30])
    async def test_a_cursor_that_was_never_given_out_is_refused_by_name(
        self, client: httpx2.AsyncClient, hand: Hand, where: str, cursor: str
    ) -> None:
        job_id = await finished_job(client, hand)
        sent: Any = {where: cursor}
        options = {"headers": sent} if where == "Last-Event-ID" else {"params": sent}
        response = await client.get(f"/v1/jobs/{job_id}/stream", **options)
        assert (response.status_code, response.json()["param"]) == (400, where)
        assert response.json()["code"] == "invalid-cursor"
