"""A request that may exceed the budget is refused and told what is left; no other state changes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
from sqlalchemy import make_url, select

from billing.budgets.budget_changes import set_budget
from billing.budgets.budget_status import budget_statuses
from billing.budgets.budgets import Budget
from billing.invoices.credits import NewAdjustment, adjust
from billing.months import month_of
from core.db.database import Database
from core.db.tables.webhooks import WebhookDeliveryRow, WebhookEventRow
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    answering,
    chat_body,
    connect,
    on_loop,
    refreshed,
    services,
    submit,
)
from tests.support.ledger import a_price, consuming, until_consumed, usage_of
from webhooks.signing import new_secret

pytestmark = pytest.mark.settings(
    retention__start="archive", billing__budgets_when_unknown="refuse"
)


@pytest.fixture
async def price(database: Database) -> None:
    await a_price(database, MODEL, input=Decimal(1), cached_input=Decimal(1), output=Decimal(1))


def take_away(settings: Settings) -> None:
    """Replace the SQLite file with a directory, which cannot be opened."""
    file = Path(make_url(settings.database.url.get_secret_value()).database or "")
    file.rename(file.with_suffix(".away"))
    file.mkdir()


async def budget(api: RunningApi, database: Database, amount: str, **fields: Any) -> None:
    """Set a budget of the account that the tests' client calls for."""
    await set_budget(database, replace(Budget("acme", Decimal(amount)), **fields))
    await refreshed(api)


async def test_a_request_beyond_the_budget_is_refused_with_what_is_left(
    price: None, api: RunningApi, client: httpx2.AsyncClient, database: Database
) -> None:
    await budget(api, database, "0.001")
    body = {"model": MODEL, "prompt": "hi", "max_tokens": 300}
    job = {"url": "/v1/completions", "body": body}
    first = await client.post("/v1/jobs", json=job)
    assert first.status_code == 202
    second = await client.post("/v1/jobs", json=job)
    assert second.status_code == 402
    problem = second.json()
    assert problem["code"] == "budget-exceeded"
    assert problem["budget"]["scope"] == "account"
    left, needed = (Decimal(problem["budget"][name]) for name in ("left", "needed"))
    assert Decimal(0) < left < needed
    assert left + needed == Decimal("0.001")
    small = await client.post(
        "/v1/jobs", json={"url": "/v1/completions", "body": {**body, "max_tokens": 1}}
    )
    assert small.status_code == 402  # what the prompt may cost does not fit either


async def test_the_ai_sees_a_quota_error(
    price: None, api: RunningApi, ai: openai.AsyncOpenAI, database: Database
) -> None:
    await budget(api, database, "0")
    with pytest.raises(openai.APIStatusError) as refused:
        await ai.chat.completions.create(**chat_body())
    assert refused.value.status_code == 402
    assert refused.value.code == "insufficient_quota"


async def test_a_refused_request_without_max_tokens_is_told_to_set_it(
    price: None, api: RunningApi, client: httpx2.AsyncClient, database: Database
) -> None:
    await budget(api, database, "0.001")
    body: dict[str, Any] = {"model": MODEL, "prompt": "hi"}
    for more, hinted in ({}, True), ({"max_tokens": 3_000}, False):
        job = {"url": "/v1/completions", "body": body | more}
        refused = await client.post("/v1/jobs", json=job)
        assert refused.status_code == 402
        assert ("set max_tokens" in refused.json()["detail"]) is hinted


async def test_a_rotated_key_keeps_the_budget_and_what_was_spent_of_it(
    price: None,
    keys: Keys,
    api: RunningApi,
    client: httpx2.AsyncClient,
    hand: Hand,
    store: JobStore,
    database: Database,
) -> None:
    body = {"model": MODEL, "prompt": "hi", "max_tokens": 300}
    job = {"url": "/v1/completions", "body": body}
    secrets = []
    async with connect(api, keys.admin) as admin:
        made = (await admin.post("/v1/keys", json={"account": "acme"})).json()
        for _ in range(2):
            made = (await admin.post(f"/v1/keys/{made['id']}/rotate", json={})).json()
            secrets.append(made["key"])
    # The budget is set on the last key; it is that of the first one.
    await budget(api, database, "0.001", key_id=made["id"])
    async with consuming(store, database):
        async with answering(hand, *"abcdefghij"), connect(api, secrets[0]) as second:
            assert (await second.post("/v1/jobs", json=job)).status_code == 202
        await until_consumed(store)
    (event,) = (await usage_of(database)).values()
    spent = event.input_amount + event.cached_amount + event.output_amount
    async with connect(api, secrets[1]) as third:
        refused = await third.post("/v1/jobs", json=job | {"body": body | {"max_tokens": 3_000}})
        assert refused.status_code == 402
        assert refused.json()["budget"]["scope"] == "key"
        assert Decimal(refused.json()["budget"]["left"]) == Decimal("0.001") - spent
    assert (await client.post("/v1/jobs", json=job)).status_code == 202


async def test_another_account_is_not_concerned(
    price: None, api: RunningApi, database: Database, client: httpx2.AsyncClient
) -> None:
    await set_budget(database, Budget("other", Decimal(0)))
    await refreshed(api)
    assert await submit(client)


async def test_what_a_job_did_not_use_is_there_for_the_next(
    price: None,
    api: RunningApi,
    client: httpx2.AsyncClient,
    hand: Hand,
    store: JobStore,
    database: Database,
) -> None:
    await budget(api, database, "0.001")
    body = {"model": MODEL, "prompt": "hi", "max_tokens": 300}
    job = {"url": "/v1/completions", "body": body}
    async with consuming(store, database):
        for _ in range(5):  # each may cost nearly all of it, and costs a hundredth
            async with answering(hand, "a"):
                assert (await client.post("/v1/jobs", json=job)).status_code == 202
            await until_consumed(store)
    assert len(await usage_of(database)) == 5


async def test_a_new_redis_learns_what_was_spent_before_anything_is_accepted(
    price: None,
    api: RunningApi,
    client: httpx2.AsyncClient,
    hand: Hand,
    store: JobStore,
    database: Database,
) -> None:
    async with answering(hand, *"abcdefghij"):
        await submit(client)
    async with consuming(store, database):
        await until_consumed(store)
    (event,) = (await usage_of(database)).values()
    spent = event.input_amount + event.cached_amount + event.output_amount
    redis: Any = store.redis
    for key in await redis.keys(f"{store.keys.prefix}:spend:*"):
        await redis.delete(key)
    await budget(api, database, "0.001")
    refused = await client.post(
        "/v1/jobs",
        json={
            "url": "/v1/completions",
            "body": {"model": MODEL, "prompt": "hi", "max_tokens": 4000},
        },
    )
    assert refused.status_code == 402
    assert Decimal(refused.json()["budget"]["left"]) == Decimal("0.001") - spent


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("allow", 202)])
async def test_with_sql_away_a_budget_fails_as_it_says(
    price: None,
    api: RunningApi,
    client: httpx2.AsyncClient,
    settings: Settings,
    database: Database,
    policy: str,
    status: int,
) -> None:
    await budget(api, database, "1000", when_unknown=policy)
    await services(api).database.close()
    await database.close()
    take_away(settings)
    answer = await client.post(
        "/v1/jobs", json={"url": "/v1/completions", "body": {"model": MODEL, "prompt": "hi"}}
    )
    assert answer.status_code == status, answer.text
    if status == 503:
        assert answer.json()["code"] == "spending-unknown"
        assert answer.headers["Retry-After"]


async def test_a_repeat_of_what_was_accepted_needs_no_budget(
    start_api: Callable[[], RunningApi], settings: Settings, keys: Keys, hand: Hand
) -> None:
    job = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "hi"}}
    once = {"Idempotency-Key": "k"}
    before = start_api()
    await refreshed(before)
    async with connect(before, keys.acme) as client:
        first = await client.post("/v1/jobs", json=job, headers=once)
        assert first.status_code == 202, first.text
    take_away(settings)
    after = start_api()  # has read no budgets, so it refuses requests that it cannot check
    async with connect(after, keys.acme) as client:
        assert (await client.post("/v1/jobs", json=job)).json()["code"] == "spending-unknown"
        again = await client.post("/v1/jobs", json=job, headers=once)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["idempotency-replayed"] == "true"
        other = await client.post("/v1/jobs", json=job | {"metadata": {"a": "b"}}, headers=once)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")
        async with answering(hand, "a"):
            whole = await client.post("/v1/jobs", json=job, headers=once | {"Prefer": "wait=10"})
        assert whole.json()["status"] == "completed"


async def test_a_credit_of_the_month_may_be_spent_again(
    price: None, api: RunningApi, client: httpx2.AsyncClient, database: Database
) -> None:
    await budget(api, database, "0.001")
    job = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "hi", "max_tokens": 300}}
    assert (await client.post("/v1/jobs", json=job)).status_code == 202
    assert (await client.post("/v1/jobs", json=job)).status_code == 402
    await adjust(database, NewAdjustment("acme", Decimal("-0.0009"), "outage", currency="EUR"))
    await adjust(database, NewAdjustment("acme", Decimal("0.5"), "a charge", currency="USD"))
    await refreshed(api)
    assert (await client.post("/v1/jobs", json=job)).status_code == 402
    await adjust(database, NewAdjustment("acme", Decimal("-0.0009"), "outage", currency="USD"))
    await refreshed(api)
    assert (await client.post("/v1/jobs", json=job)).status_code == 202
    async with database.read() as connection:
        (status,) = await budget_statuses(connection, month_of(datetime.now(UTC)))
    assert status.budget.credited == Decimal("0.0009")
    assert (await client.post("/v1/jobs", json=job)).status_code == 402


async def test_a_budget_tells_once_a_month_that_it_refused_a_job(
    price: None, api: RunningApi, client: httpx2.AsyncClient, database: Database
) -> None:
    hook = "https://example.com/budget"
    await budget(api, database, "0.001", webhook=hook, webhook_secret=new_secret())
    job = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "hi", "max_tokens": 3_000}}
    for amount in ("0.001", "0.001", "0.002"):
        await budget(api, database, amount, webhook=hook, webhook_secret=new_secret())
        for _ in range(2):
            assert (await client.post("/v1/jobs", json=job)).status_code == 402
        await on_loop(api, services(api).budget_guard.tell_refusals())
    async with database.read() as connection:
        kept = list(await connection.scalars(select(WebhookEventRow.payload)))
        urls = list(await connection.scalars(select(WebhookDeliveryRow.url)))
    told = [orjson.loads(payload) for payload in kept]
    assert [one["type"] for one in told] == ["budget.refused"] * 2
    assert sorted(one["data"]["budget"] for one in told) == ["0.001", "0.002"]
    assert {one["data"]["model"] for one in told} == {MODEL}
    assert all(Decimal(one["data"]["needed"]) > Decimal(one["data"]["left"]) for one in told)
    assert urls == [hook] * 2
