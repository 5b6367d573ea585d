"""Rate limits, queue shares and load shedding over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest

from accounts.caller import Limits
from core.errors import EngineError
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.queue_control import ModeChange, QueueMode
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    answering,
    chat_body,
    chat_job,
    connect,
    submit,
)
from tests.support.keys import make_key
from tests.support.waiting import eventually
from wire.rate_limit_headers import duration

CHAT = "/v1/chat/completions"
RATES = ("ratelimit", "ratelimit-policy")


@asynccontextmanager
async def limited(
    api: RunningApi, account: str = "small", **fields: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose key has limits."""
    key = await asyncio.to_thread(make_key, api.settings, account, **fields)
    async with connect(api, key) as opened:
        yield opened


def is_rate_limited(response: httpx2.Response) -> bool:
    if response.status_code == 202:
        return False
    assert response.status_code == 429, response.text
    assert response.json()["code"] == "rate-limited"
    return True


async def test_every_answer_to_a_submission_says_what_is_left(
    api: RunningApi, store: JobStore
) -> None:
    limits = Limits(requests_per_minute=3, tokens_per_minute=100_000)
    async with limited(api, limits=limits, account_limits=Limits(requests_per_minute=2)) as client:
        first = (await client.post("/v1/jobs", json=chat_job())).headers
        assert first["ratelimit-policy"] == (
            '"key-requests";q=3;w=60, "key-tokens";q=100000;w=60, "account-requests";q=2;w=60'
        )
        assert first["ratelimit"].startswith('"key-requests";r=2;t=20, "key-tokens";r=99')
        assert first["ratelimit"].endswith('"account-requests";r=1;t=30')
        # The account has less left than the key.
        assert first["x-ratelimit-limit-requests"] == "2"
        assert first["x-ratelimit-remaining-requests"] == "1"
        assert first["x-ratelimit-reset-requests"] == "30s"
        assert first["x-ratelimit-limit-tokens"] == "100000"
        assert 99_000 < int(first["x-ratelimit-remaining-tokens"]) < 100_000
        assert first["x-ratelimit-reset-tokens"].endswith("ms")
        await client.post("/v1/jobs", json=chat_job())
        refused = await client.post("/v1/jobs", json=chat_job())
        assert is_rate_limited(refused)
        assert 28 <= int(refused.headers["retry-after"]) <= 30
        assert refused.json()["retry_after"] == int(refused.headers["retry-after"])
        assert "2 requests a minute of this account" in refused.json()["detail"]
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert '"key-requests";r=1;' in refused.headers["ratelimit"], "the refusal cost nothing"


async def test_refusals_are_counted_by_what_is_limited_and_whose_it_is(
    api: RunningApi, store: JobStore
) -> None:
    async def counted(client: httpx2.AsyncClient, limit: str, scope: str) -> float:
        line = f'penstock_limit_refusals_total{{limit="{limit}",scope="{scope}"}} '
        text = (await client.get("/metrics")).text
        return sum(float(row.split()[-1]) for row in text.splitlines() if row.startswith(line))

    cases = [
        ({"limits": Limits(requests_per_minute=1)}, "requests", "key"),
        ({"account_limits": Limits(requests_per_minute=1)}, "requests", "account"),
        ({"limits": Limits(tokens_per_minute=300)}, "tokens", "key"),
        ({"limits": Limits(max_queued=1)}, "queued", "key"),
    ]
    for number, (fields, limit, scope) in enumerate(cases):
        async with limited(api, f"account{number}", **fields) as client:
            before = await counted(client, limit, scope)
            await submit(client)
            assert (await client.post("/v1/jobs", json=chat_job())).status_code == 429
            assert await counted(client, limit, scope) == before + 1


@pytest.mark.settings(
    limits__requests_per_minute_per_address=2,
    limits__request_burst_seconds=45.0,
    api__trusted_proxies=["127.0.0.0/8"],
)
async def test_an_address_is_limited_whichever_key_it_uses(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    def place(last: int) -> dict[str, str]:
        return {"X-Forwarded-For": f"198.51.100.{last}"}

    first = await client.post("/v1/jobs", json=chat_job(), headers=place(1))
    assert first.headers["ratelimit-policy"] == '"address-requests";q=1;w=45'
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    refused = await other.post("/v1/jobs", json=chat_job(), headers=place(1))
    assert is_rate_limited(refused)
    assert "2 requests a minute of this address" in refused.json()["detail"]
    assert (await other.post("/v1/jobs", json=chat_job(), headers=place(2))).status_code == 202
    retried = await other.post(
        f"/v1/jobs/{await cancelled(other, place(3))}/retry", headers=place(3)
    )
    assert is_rate_limited(retried)


async def cancelled(client: httpx2.AsyncClient, headers: dict[str, str]) -> str:
    """Submit a job from this address and cancel it."""
    accepted = await client.post("/v1/jobs", json=chat_job(), headers=headers)
    await client.post(f"/v1/jobs/{accepted.json()['id']}/cancel")
    return str(accepted.json()["id"])


async def test_a_key_without_limits_is_told_nothing_of_them(client: httpx2.AsyncClient) -> None:
    headers = (await client.post("/v1/jobs", json=chat_job())).headers
    assert not [name for name in headers if "ratelimit" in name]


async def test_openai_s_client_sees_a_rate_limit_error_with_its_headers(
    api: RunningApi, hand: Hand
) -> None:
    key = make_key(api.settings, "small", limits=Limits(requests_per_minute=1))
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=key, max_retries=0, timeout=20
    ) as ai:
        async with answering(hand, "hi"):
            raw = await ai.chat.completions.with_raw_response.create(**chat_body())
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as refused:
            await ai.chat.completions.create(**chat_body())
        assert refused.value.code == "rate_limit_exceeded"
        assert refused.value.type == "rate_limit_error"
        headers = refused.value.response.headers
        assert headers["x-ratelimit-limit-requests"] == "1"
        assert 50 <= int(headers["retry-after"]) <= 60
        assert all(name in headers for name in RATES)


async def test_streams_carry_the_headers_too(api: RunningApi, hand: Hand) -> None:
    async with limited(api, limits=Limits(requests_per_minute=5)) as client, answering(hand, "a"):
        response = await client.post(CHAT, json=chat_body(stream=True))
        assert response.headers["x-ratelimit-remaining-requests"] == "4"


async def test_an_answer_without_a_result_says_what_is_left_too(
    api: RunningApi, hand: Hand
) -> None:
    async def fail() -> None:
        await hand.finish(await hand.take(), Status.FAILED, EngineError("it broke"))

    async with limited(api, limits=Limits(requests_per_minute=5)) as client:
        response, _ = await asyncio.gather(client.post(CHAT, json=chat_body()), fail())
    assert response.status_code == 500
    assert response.headers["x-ratelimit-remaining-requests"] == "4"
    assert response.headers["x-should-retry"] == "false"


async def test_a_repeat_by_its_idempotency_key_is_free(api: RunningApi, store: JobStore) -> None:
    once = {"Idempotency-Key": "k"}
    async with limited(api, limits=Limits(requests_per_minute=1)) as client:
        first = await client.post("/v1/jobs", json=chat_job(), headers=once)
        assert is_rate_limited(await client.post("/v1/jobs", json=chat_job()))
        again = await client.post("/v1/jobs", json=chat_job(), headers=once)
        assert again.status_code == 202
        assert again.json()["id"] == first.json()["id"]
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["x-ratelimit-remaining-requests"] == "0"


async def test_what_is_refused_for_another_reason_pays_nothing(
    api: RunningApi, store: JobStore
) -> None:
    async with limited(api, limits=Limits(requests_per_minute=1)) as client:
        for body in (chat_body(model="nope"), chat_body(temperature=9), chat_body(messages=[])):
            assert (await client.post("/v1/jobs", json=chat_job(body=body))).status_code >= 400
        await store.control.change_mode(MODEL, ModeChange.to(QueueMode.DRAINING), "test")
        assert (await client.post("/v1/jobs", json=chat_job())).status_code == 503
        await store.control.change_mode(MODEL, ModeChange.to(QueueMode.OPEN), "test")
        assert not is_rate_limited(await client.post("/v1/jobs", json=chat_job()))


async def test_tokens_are_held_by_the_estimate_and_settled_to_what_was_used(
    api: RunningApi, hand: Hand
) -> None:
    async def left(response: httpx2.Response) -> int:
        return int(response.headers["x-ratelimit-remaining-tokens"])

    large = chat_job(body=chat_body(max_tokens=600))
    async with limited(api, limits=Limits(tokens_per_minute=1000)) as client:
        first = await client.post("/v1/jobs", json=large)
        assert 300 < await left(first) < 400
        refused = await client.post("/v1/jobs", json=large)
        assert is_rate_limited(refused)
        assert "1000 tokens a minute of this key" in refused.json()["detail"]
        await hand.answer(await hand.take(), "one", "two")  # 5 in, 2 out
        second = await client.post("/v1/jobs", json=large)
        assert not is_rate_limited(second), "the answer took 7 tokens of 600 and more"
        await client.post(f"/v1/jobs/{second.json()['id']}/cancel")
        third = await client.post("/v1/jobs", json=large)
        assert not is_rate_limited(third), "a job that never ran took nothing"


async def test_a_request_beyond_a_whole_minute_is_refused_for_good(
    api: RunningApi, store: JobStore
) -> None:
    async with limited(api, limits=Limits(tokens_per_minute=100)) as client:
        job = await client.post("/v1/jobs", json=chat_job(body=chat_body(max_tokens=600)))
        assert (job.status_code, job.json()["code"]) == (422, "limit-too-small")
        assert "retry-after" not in job.headers
        chat = await client.post(CHAT, json=chat_body(max_tokens=600))
        assert (chat.status_code, chat.json()["error"]["code"]) == (400, "limit_too_small")
        assert chat.json()["error"]["param"] == "max_tokens"


async def test_a_key_s_share_of_the_queue_is_its_own(api: RunningApi, store: JobStore) -> None:
    async with (
        limited(api, limits=Limits(max_queued=2)) as few,
        limited(api, account_limits=Limits(max_queued=3)) as more,
    ):
        for _ in range(2):
            await submit(few)
        refused = await few.post("/v1/jobs", json=chat_job())
        assert (refused.status_code, refused.json()["code"]) == (429, "queue-full")
        assert "this key's share" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        await submit(more)
        refused = await more.post("/v1/jobs", json=chat_job())
        assert refused.status_code == 429
        assert "this account's share" in refused.json()["detail"]


async def test_a_key_at_its_cap_leaves_its_account_s_room_to_others(
    api: RunningApi, hand: Hand, store: JobStore
) -> None:
    own = Limits(max_running=2)
    async with (
        limited(api, limits=Limits(max_running=1), account_limits=own) as capped,
        limited(api, account_limits=own) as free,
    ):
        waiting = [await submit(capped) for _ in range(3)]
        others = [await submit(free) for _ in range(3)]
        first, second = await hand.take(), await hand.take()
        assert {first.id, second.id} == {waiting[0], others[0]}
        assert await store.claim(MODEL, "hand", 8) == []
        await hand.answer(first, "x")
        assert (await hand.take()).id in (waiting[1], others[1])
        assert await store.claim(MODEL, "hand", 8) == []


@pytest.mark.settings(queue={"max_queued": 10, "shed_flex_at": 0.5, "shed_default_at": 0.8})
async def test_flex_is_shed_first_and_priority_last(
    store: JobStore, client: httpx2.AsyncClient
) -> None:
    async def accepted(tier: str) -> int:
        for count in range(20):
            response = await client.post("/v1/jobs", json=chat_job(service_tier=tier))
            if response.status_code != 202:
                assert (response.status_code, response.json()["code"]) == (429, "queue-full")
                assert f"full for tier {tier}" in response.json()["detail"]
                assert int(response.headers["retry-after"]) == 30, "no pace is known yet"
                return count
        return 20

    assert [await accepted(tier) for tier in ("flex", "default", "priority")] == [5, 3, 2]


@pytest.mark.settings(queue__shed_wait_seconds=10)
async def test_a_job_that_would_wait_too_long_is_refused_until_the_queue_is_shorter(
    store: JobStore, client: httpx2.AsyncClient
) -> None:
    # Two slots, 4 s a job: half a job a second, so 5 jobs are 10 s of work.
    await store.renew(MODEL, "w", 2, b"{}", [])
    await store.redis.hset(
        store.keys.part(MODEL, "service"), mapping={"n": 50, "mean": 4000, "square": 16_000_000}
    )
    for _ in range(5):
        assert (await client.post("/v1/jobs", json=chat_job())).status_code == 202
    refused = await client.post("/v1/jobs", json=chat_job())
    assert (refused.status_code, refused.json()["code"]) == (429, "wait-too-long")
    assert int(refused.headers["retry-after"]) == 2
    # Jobs of a lower tier do not delay a higher one.
    before = await client.post("/v1/jobs", json=chat_job(service_tier="priority"))
    assert before.status_code == 202
    await store.claim(MODEL, "w", 2)

    async def again() -> bool:
        return (await client.post("/v1/jobs", json=chat_job())).status_code == 202

    await eventually(again)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1s"),
        (6050, "6.05s"),
        (60_000, "1m0s"),
        (90_500, "1m30.5s"),
    ],
)
def test_times_are_written_as_openai_does(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


async def test_a_draining_queue_takes_no_job_and_goes_on_with_those_it_has(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore, keys: Keys
) -> None:
    once = {"Idempotency-Key": "k"}
    waiting = (await client.post("/v1/jobs", json=chat_job(), headers=once)).json()["id"]
    await store.control.change_mode(MODEL, ModeChange.to(QueueMode.DRAINING), "test")
    refused = await client.post("/v1/jobs", json=chat_job())
    assert (refused.status_code, refused.json()["code"]) == (503, "queue-draining")
    assert refused.headers["retry-after"] == "30"
    repeat = await client.post("/v1/jobs", json=chat_job(), headers=once)
    assert repeat.json()["id"] == waiting
    job = await hand.take()
    assert job.id == waiting
    await hand.answer(job, "done")
