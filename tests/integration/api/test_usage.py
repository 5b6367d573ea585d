"""`GET /v1/usage`: an account reads the sums of its own usage, page by page."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from core.db.database import Database
from tests.integration.api.conftest import (
    Keys,
    OnSharedApi,
    RunningApi,
    WithoutDatabase,
    connect,
    on_both_databases,
)
from tests.support.months import a_past_price, usage_entry, used
from wire.schemas.usage import UsagePage

FIRST = datetime(2026, 10, 1, tzinfo=UTC)
OCTOBER = {"from": "2026-10-01", "to": "2026-10-31"}


database_url = pytest.fixture(on_both_databases)


@pytest.fixture
async def october(database: Database) -> Database:
    """Ten days of two models and two keys of acme, two jobs of another, one without a price."""
    await a_past_price(database)
    await a_past_price(database, "n", currency="EUR")
    days = [FIRST + timedelta(days=day, hours=23, minutes=59) for day in range(10)]
    await used(
        database,
        *(usage_entry(finished=day) for day in days for _ in range(2)),
        *(usage_entry(finished=day, model="n", key_id="key_2") for day in days[:3]),
        *(usage_entry(finished=day, account="other") for day in days[:2]),
        usage_entry(finished=days[0], model="unpriced"),
        usage_entry(finished=FIRST - timedelta(milliseconds=1)),
    )
    return database


async def pages(client: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """Return the data of all pages."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await client.get("/v1/usage", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        UsagePage.model_validate(page)
        found += page["data"]
        assert page["has_more"] == (page["next"] is not None) == ("Link" in answer.headers)
        if page["next"] is None:
            return found
        params["after"] = page["next"]


async def test_totals_by_day_model_and_key(october: Database, client: httpx2.AsyncClient) -> None:
    by_day = await pages(client, **OCTOBER)
    by_model = await pages(client, group_by="model", **OCTOBER)
    by_all = await pages(client, group_by="key,day,model", **OCTOBER)

    first = [row for row in by_day if row["day"] == "2026-10-01"]
    assert [(row["currency"], row["jobs"]) for row in first] == [(None, 1), ("EUR", 1), ("USD", 2)]
    # 800 input tokens at 0.20, 200 cached ones at 0.05 and 500 output tokens at 0.30 per million
    assert [row["amount"] for row in first] == [None, "0.00032", "0.00064"]
    assert {row["day"] for row in by_day} == {f"2026-10-{day:02}" for day in range(1, 11)}
    assert [(row["model"], row["jobs"]) for row in by_model] == [
        ("m", 20),
        ("n", 3),
        ("unpriced", 1),
    ]
    assert by_model[0]["input_tokens"] == 20_000
    assert by_model[0]["cached_input_tokens"] == 4_000
    assert by_model[0]["output_tokens"] == 10_000
    assert by_all[0] | {"amount": None} == {
        "day": "2026-10-01", "model": "m", "key": "key_1", "jobs": 2, "input_tokens": 2_000,
        "cached_input_tokens": 400, "output_tokens": 1_000, "currency": "USD", "amount": None,
    }  # fmt: skip
    assert len(by_all) == 14


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_pages_of_any_size_give_the_same_rows(
    october: Database, client: httpx2.AsyncClient, limit: int
) -> None:
    whole = await pages(client, group_by="day,model,key", **OCTOBER)
    cut = await pages(client, group_by="day,model,key", limit=limit, **OCTOBER)
    assert cut == whole


async def test_a_cursor_repeats_and_misses_nothing_while_usage_comes_in(
    october: Database, client: httpx2.AsyncClient
) -> None:
    params: dict[str, Any] = {**OCTOBER, "group_by": "day", "limit": 3}
    before = {(row["day"], row["currency"]) for row in await pages(client, **params)}
    seen: list[tuple[str, str]] = []
    day = FIRST
    while True:
        page = (await client.get("/v1/usage", params=params)).json()
        seen += [(row["day"], row["currency"]) for row in page["data"]]
        await used(october, usage_entry(finished=day), usage_entry(finished=day, model="n"))
        day += timedelta(days=3)
        if page["next"] is None:
            break
        params["after"] = page["next"]
    assert len(seen) == len(set(seen))
    assert before <= set(seen)


async def test_csv_is_the_same_page_and_links_to_the_next(
    october: Database, client: httpx2.AsyncClient
) -> None:
    params: dict[str, Any] = {**OCTOBER, "group_by": "day,model", "limit": 5}
    as_json = (await client.get("/v1/usage", params=params)).json()
    by_format = await client.get("/v1/usage", params={**params, "format": "csv"})
    by_header = await client.get("/v1/usage", params=params, headers={"Accept": "text/csv"})

    assert by_format.headers["content-type"].startswith("text/csv")
    assert by_format.content == by_header.content
    rows = list(csv.DictReader(io.StringIO(by_format.text)))
    assert list(rows[0]) == [
        "day", "model", "jobs", "input_tokens", "cached_input_tokens", "output_tokens",
        "currency", "amount",
    ]  # fmt: skip
    expected = [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in as_json["data"]
    ]
    assert rows == expected
    following = by_format.headers["Link"].partition(">")[0].lstrip("<")
    more = list(csv.DictReader(io.StringIO((await client.get(following)).text)))
    assert more
    assert not [row for row in more if row in rows]


async def test_an_account_sees_its_own_and_an_admin_any(
    october: Database, client: httpx2.AsyncClient, api: RunningApi, keys: Keys
) -> None:
    asked = {**OCTOBER, "group_by": "model", "account": "other"}
    assert (await client.get("/v1/usage", params=asked)).status_code == 404
    own = await client.get("/v1/usage", params={**asked, "account": "acme"})
    assert own.status_code == 200
    async with connect(api, keys.admin) as admin:
        page = (await admin.get("/v1/usage", params=asked)).json()
        assert (page["account"], page["data"][0]["jobs"]) == ("other", 2)
        assert (await admin.get("/v1/usage", params=OCTOBER)).json()["data"] == []


async def test_without_days_it_is_this_month(
    database: Database, client: httpx2.AsyncClient
) -> None:
    now = datetime.now(UTC)
    await a_past_price(database)
    await used(database, usage_entry(finished=now), usage_entry(finished=now - timedelta(days=40)))

    page = (await client.get("/v1/usage")).json()

    assert sum(row["jobs"] for row in page["data"]) == 1
    assert page["from"] == f"{now:%Y-%m}-01"
    assert Decimal(page["data"][0]["amount"]) > 0


@pytest.mark.parametrize("cursor", ["nonsense", "W10", "W1siZGF5Il0sWyJhIiwiYiJdXQ", "%00", "é"])
async def test_a_cursor_that_was_never_given_out_is_refused(
    client: httpx2.AsyncClient, cursor: str
) -> None:
    answer = await client.get("/v1/usage", params={"after": cursor})
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid-cursor"


async def test_a_cursor_of_another_grouping_is_refused(
    october: Database, client: httpx2.AsyncClient
) -> None:
    page = (await client.get("/v1/usage", params={**OCTOBER, "limit": 1})).json()
    answer = await client.get(
        "/v1/usage", params={**OCTOBER, "group_by": "model", "after": page["next"]}
    )
    assert answer.status_code == 400


class TestWithoutDatabase(WithoutDatabase):
    async def test_it_says_when_to_come_back(self, client: httpx2.AsyncClient) -> None:
        for path in ("/v1/usage", f"/v1/usage/job_{'0' * 32}/proof"):
            answer = await client.get(path)
            assert answer.status_code == 503, path
            assert answer.json()["code"] == "database-unavailable"
            assert int(answer.headers["Retry-After"]) > 0


class TestOnSharedApi(OnSharedApi):
    @pytest.mark.parametrize(
        ("params", "param", "words"),
        [
            ({"from": "2026-11-02", "to": "2026-11-01"}, "from", "not after"),
            ({"from": "2025-01-01", "to": "2026-11-01"}, "from", "366 days"),
            ({"from": "yesterday"}, "from", "2026-11-22"),
            ({"to": "2026-02-30"}, "to", "2026-11-22"),
            ({"to": "2026-W47-7"}, "to", "2026-11-22"),
            ({"to": "9999-12-31"}, "to", "2026-11-22"),
            ({"group_by": "day,week"}, "group_by", "day, model, key"),
            ({"group_by": "day,day"}, "group_by", "once"),
            ({"group_by": ""}, "group_by", "day, model, key"),
            ({"limit": 1001}, "limit", "1000"),
            ({"format": "xml"}, "format", "json"),
            ({"account": "a b"}, "account", "pattern"),
        ],
    )
    async def test_a_bad_range_names_what_is_expected(
        self, client: httpx2.AsyncClient, params: dict[str, Any], param: str, words: str
    ) -> None:
        answer = await client.get("/v1/usage", params=params)

        assert answer.status_code == 422
        problem = answer.json()
        assert problem["param"] == param
        assert words in problem["detail"]
