"""`/v1/webhooks`: an account creates, changes and reads its own endpoints only."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from core.db.database import Database
from core.db.tables.base import now
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import Hand, OnSharedApi, on_both_databases, submit
from tests.support.ledger import consuming, until_consumed
from tests.support.receiver import receiving
from tests.support.webhooks import REACHABLE, deliver, tell
from webhooks.deliverer import Deliverer
from webhooks.deliveries import disable
from wire.schemas.webhooks import (
    Accepted,
    DeliveryObject,
    DeliveryPage,
    Webhook,
    WebhookList,
    WebhookSecretObject,
)

URL = "https://hooks.example.com/in"


#: For tests that could differ between databases.
BOTH = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"])


@pytest.fixture
def database_kind() -> str:
    """One kind of database, where nothing else is said."""
    return "sqlite"


pytestmark = pytest.mark.settings(webhooks=REACHABLE | {"endpoints_per_account": 3})


database_url = pytest.fixture(on_both_databases)


async def make(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Make an endpoint."""
    answer = await client.post("/v1/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    Webhook.model_validate(made)
    assert answer.headers["location"] == f"/v1/webhooks/{made['id']}"
    return made


async def test_the_secret_is_shown_when_it_is_made_and_never_again(
    client: httpx2.AsyncClient,
) -> None:
    made = await make(client, events=["job.failed"], description="on call")
    assert made["secret"].startswith("whsec_")
    read = (await client.get(f"/v1/webhooks/{made['id']}")).json()
    Webhook.model_validate(read)
    assert "secret" not in read
    assert read == {name: value for name, value in made.items() if name != "secret"}
    listed = (await client.get("/v1/webhooks")).json()
    WebhookList.model_validate(listed)
    assert listed["data"] == [read]


async def test_a_jobs_end_reaches_the_endpoint_and_its_own_url(
    client: httpx2.AsyncClient,
    hand: Hand,
    store: JobStore,
    database: Database,
    deliverer: Deliverer,
) -> None:
    async with receiving(200) as receiver, receiving(200) as own:
        made = await make(client, url=receiver.url)
        job_id = await submit(client, webhook=own.url, metadata={"order": "17"})
        shown = (await client.get(f"/v1/jobs/{job_id}")).json()
        assert shown["webhook"] == {"url": own.url, "events": []}
        await hand.answer(await hand.take(), "word")
        async with consuming(store, database):
            await until_consumed(store)
        await deliver(deliverer, database)
        (got,), (also,) = receiver.got, own.got
        secret = (await client.get("/v1/webhooks/secret")).json()
        WebhookSecretObject.model_validate(secret)
        told = got.verify(made["secret"])
        assert told == also.verify(secret["secret"])
        assert (told["type"], told["data"]["id"]) == ("job.completed", job_id)
        assert told["data"]["metadata"] == {"order": "17"}
        fetched = await client.get(told["data"]["urls"]["result"])
        assert fetched.json()["choices"][0]["message"]["content"] == "word"

        page = (await client.get("/v1/webhooks/deliveries")).json()
        DeliveryPage.model_validate(page)
        assert {one["webhook"] for one in page["data"]} == {made["id"], None}
        assert {one["state"] for one in page["data"]} == {"delivered"}
        assert {one["event"] for one in page["data"]} == {got.id} == {also.id}


async def test_a_job_with_an_object_hears_of_the_ends_it_asks_for(
    client: httpx2.AsyncClient,
) -> None:
    hook = {"url": URL, "events": ["job.failed", "job.expired"]}
    job_id = await submit(client, webhook=hook)
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["webhook"] == hook
    assert (await client.get(f"/v1/jobs/{await submit(client)}")).json()["webhook"] is None


@BOTH
async def test_the_log_says_how_each_attempt_went_and_a_delivery_can_be_repeated(
    client: httpx2.AsyncClient, database: Database, deliverer: Deliverer
) -> None:
    async with receiving(500, 200, 200) as receiver:
        made = await make(client, url=receiver.url)
        await tell(database)
        await deliver(deliverer, database)
        path = f"/v1/webhooks/{made['id']}/deliveries"
        (row,) = (await client.get(path, params={"state": "pending"})).json()["data"]
        assert row["failure"] == "answered 500"
        assert row["next_attempt_at"] > row["created_at"]
        for _ in range(2):
            again = await client.post(f"/v1/webhooks/deliveries/{row['id']}/redeliver")
            assert again.status_code == 202
            Accepted.model_validate(again.json())
            await deliver(deliverer, database)
        read = (await client.get(f"/v1/webhooks/deliveries/{row['id']}")).json()
    DeliveryObject.model_validate(read)
    assert read["state"] == "delivered"
    assert [line["status"] for line in read["log"]] == [200, 200, 500]
    assert len(set(receiver.ids)) == 1
    assert not (await client.get(path, params={"state": "pending"})).json()["data"]


@BOTH
async def test_deliveries_come_in_pages(client: httpx2.AsyncClient, database: Database) -> None:
    made = await make(client)
    await tell(database, 5)
    path, found, after = f"/v1/webhooks/{made['id']}/deliveries", [], None
    while True:
        params = {"limit": 2} | ({"after": after} if after else {})
        page = (await client.get(path, params=params)).json()
        found += [one["id"] for one in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 5
    for cursor in ("whd_1", "job_" + "0" * 32, "x"):
        wrong = await client.get(path, params={"after": cursor})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-cursor")


@BOTH
async def test_a_rotated_secret_signs_beside_the_new_one(
    client: httpx2.AsyncClient, database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        made = await make(client, url=receiver.url)
        rotated = (await client.post(f"/v1/webhooks/{made['id']}/rotate")).json()
        Webhook.model_validate(rotated)
        assert rotated["secret"] != made["secret"]
        until = rotated["previous_secret_until"]
        assert abs(until - (now() + timedelta(hours=24)).timestamp()) < 60
        await tell(database)
        await deliver(deliverer, database)
    (got,) = receiver.got
    assert got.verify(made["secret"]) == got.verify(rotated["secret"])
    first = (await client.get("/v1/webhooks/secret")).json()
    second = (await client.post("/v1/webhooks/secret/rotate")).json()
    assert second["secret"] != first["secret"]
    assert second["previous_secret_until"] is not None


async def test_a_test_event_reaches_an_endpoint_that_asks_for_others(
    client: httpx2.AsyncClient, database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver, receiving(200) as other:
        made = await make(client, url=receiver.url, events=["job.failed"])
        await make(client, url=other.url)
        sent = await client.post(f"/v1/webhooks/{made['id']}/test")
        assert sent.status_code == 202
        await deliver(deliverer, database)
        read = (await client.get(sent.headers["location"])).json()
    assert read["state"] == "delivered"
    (got,) = receiver.got
    assert got.verify(made["secret"])["type"] == "webhook.test"
    assert not other.got


async def test_a_disabled_endpoint_says_why_and_can_be_enabled(
    client: httpx2.AsyncClient, database: Database
) -> None:
    made = await make(client)
    await tell(database)
    async with database.write() as connection:
        await disable(connection, made["id"], "the endpoint answered 410 Gone")
    read = (await client.get(f"/v1/webhooks/{made['id']}")).json()
    assert read["disabled_why"] == "the endpoint answered 410 Gone"
    refused = await client.post(f"/v1/webhooks/{made['id']}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook-disabled")
    (given_up,) = (await client.get("/v1/webhooks/deliveries")).json()["data"]
    path = f"/v1/webhooks/deliveries/{given_up['id']}/redeliver"
    refused = await client.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook-disabled")
    enabled = (await client.post(f"/v1/webhooks/{made['id']}/enable")).json()
    assert (enabled["disabled_at"], enabled["disabled_why"]) == (None, None)
    assert (await client.post(path)).status_code == 202


async def test_a_changed_url_is_where_even_what_was_on_its_way_goes(
    client: httpx2.AsyncClient, database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as old, receiving(200) as new:
        made = await make(client, url=old.url)
        await tell(database)
        path = f"/v1/webhooks/{made['id']}"
        changed = await client.patch(path, json={"url": new.url, "description": "moved"})
        assert changed.json()["description"] == "moved"
        await deliver(deliverer, database)
    assert (len(old.got), len(new.got)) == (0, 1)
    assert (await client.patch(path, json={"events": ["job.failed"]})).json()["events"] == [
        "job.failed"
    ]


async def test_a_removed_endpoint_hears_nothing_more(
    client: httpx2.AsyncClient, database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        made = await make(client, url=receiver.url)
        await tell(database)
        assert (await client.delete(f"/v1/webhooks/{made['id']}")).status_code == 204
        await deliver(deliverer, database)
    assert not receiver.got
    assert (await client.get(f"/v1/webhooks/{made['id']}")).status_code == 404
    (row,) = (await client.get("/v1/webhooks/deliveries")).json()["data"]
    assert (row["state"], row["failure"]) == ("failed", "the endpoint was removed")


async def test_an_account_has_so_many_endpoints_and_no_more(client: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await make(client)
    refused = await client.post("/v1/webhooks", json={"url": URL})
    assert (refused.status_code, refused.json()["code"]) == (409, "too-many-webhooks")


async def test_another_accounts_endpoints_and_deliveries_look_unknown(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient, database: Database
) -> None:
    made = await make(client)
    await tell(database)
    (row,) = (await client.get("/v1/webhooks/deliveries")).json()["data"]
    assert not (await other.get("/v1/webhooks")).json()["data"]
    assert not (await other.get("/v1/webhooks/deliveries")).json()["data"]
    one = f"/v1/webhooks/{made['id']}"
    calls = [
        *(("GET", one), ("PATCH", one), ("DELETE", one), ("POST", f"{one}/rotate")),
        *(("POST", f"{one}/enable"), ("POST", f"{one}/test"), ("GET", f"{one}/deliveries")),
        ("GET", f"/v1/webhooks/deliveries/{row['id']}"),
        ("POST", f"/v1/webhooks/deliveries/{row['id']}/redeliver"),
    ]
    for method, path in calls:
        json = {"description": "mine"} if method == "PATCH" else None
        foreign = await other.request(method, path, json=json)
        unknown = await other.request(method, path.replace(made["id"], "whe_0"), json=json)
        assert foreign.status_code == 404, (method, path, foreign.text)
        assert foreign.json()["code"] == (
            "delivery-not-found" if "deliveries/" in path else "webhook-not-found"
        )
        if path.startswith(one):
            assert unknown.json()["code"] == foreign.json()["code"]
    assert (await client.get(one)).json()["description"] == ""


@BOTH
@pytest.mark.parametrize("name", ["%00", "whe_%00", "whe_0'--", "%F0%9F%92%A5", "a" * 300, "..%2f"])
async def test_an_id_that_was_never_given_out_is_unknown(
    client: httpx2.AsyncClient, name: str
) -> None:
    for method, path in (
        ("GET", f"/v1/webhooks/{name}"),
        ("DELETE", f"/v1/webhooks/{name}"),
        ("GET", f"/v1/webhooks/{name}/deliveries"),
        ("GET", f"/v1/webhooks/deliveries/{name}"),
        ("POST", f"/v1/webhooks/deliveries/{name}/redeliver"),
    ):
        assert (await client.request(method, path)).status_code == 404, (method, path)


async def test_what_is_asked_for_by_hand_is_sent_at_once(
    client: httpx2.AsyncClient, store: JobStore
) -> None:
    made = await make(client)
    await client.post(f"/v1/webhooks/{made['id']}/test")
    assert await store.redis.llen(store.keys.webhooks) == 1


async def test_the_accounts_admins_find_every_change_in_their_log(
    client: httpx2.AsyncClient,
) -> None:
    one = f"/v1/webhooks/{(await make(client))['id']}"
    await client.patch(one, json={"description": "new"})
    for action in (f"{one}/rotate", f"{one}/enable", "/v1/webhooks/secret/rotate"):
        assert (await client.post(action)).status_code == 200, action
    assert (await client.delete(one)).status_code == 204
    found = (await client.get("/v1/audit", params={"limit": 6})).json()["data"]
    whole = {f"webhook_{done}" for done in ("created", "changed", "enabled", "removed")}
    assert {entry["action"] for entry in found} == whole | {"webhook_secret_rotated"}
    targets = [entry["target"] for entry in found if entry["action"] == "webhook_secret_rotated"]
    assert sorted(targets) == ["acme", one.rpartition("/")[2]]
    assert {entry["account"] for entry in found} == {"acme"}
    assert "whsec_" not in str(found)


@BOTH
async def test_tests_do_not_pile_up_at_a_receiver(
    client: httpx2.AsyncClient, database: Database, deliverer: Deliverer
) -> None:
    async with receiving(500) as receiver:
        made = await make(client, url=receiver.url)
        path = f"/v1/webhooks/{made['id']}/test"
        answers = await asyncio.gather(*(client.post(path) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {202}
        (name,) = {answer.json()["id"] for answer in answers}
        await deliver(deliverer, database)
        await deliver(deliverer, database)
        assert len(receiver.got) == 1, "the next try is due later"
        assert (await client.post(path)).json()["id"] == name
        await deliver(deliverer, database)
        assert len(receiver.got) == 2, "but for who asks again it is due now"
        other = await make(client, url=receiver.url)
        more = await client.post(f"/v1/webhooks/{other['id']}/test")
        assert more.json()["id"] != name


class TestOnSharedApi(OnSharedApi):
    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({}, "url"),
            ({"url": 7}, "url"),
            ({"url": ""}, "url"),
            ({"url": "https://a" + "a" * 3_000}, "url"),
            ({"url": "https://user:secret@example.com/"}, "url"),
            ({"url": "https://10.0.0.1/"}, "url"),
            ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
            ({"url": "https://2130706433/"}, "url"),
            ({"url": "https://localhost/"}, "url"),
            ({"url": "https://example.com/\u202e"}, "url"),
            ({"url": "file:///etc/passwd"}, "url"),
            ({"url": URL, "events": ["job.began"]}, "events[0]"),
            ({"url": URL, "events": "job.failed"}, "events"),
            ({"url": URL, "description": "x" * 300}, "description"),
            ({"url": URL, "description": "a\0b"}, "description"),
            ({"url": "https://example.com/\0"}, "url"),
            ({"url": URL, "secret": "whsec_mine"}, "secret"),
        ],
    )
    async def test_a_wrong_field_is_named_and_nothing_is_made(
        self, client: httpx2.AsyncClient, body: dict[str, Any], name: str
    ) -> None:
        refused = await client.post("/v1/webhooks", json=body)
        assert refused.status_code == 422, refused.text
        assert refused.json()["param"] == name
        assert "secret@" not in refused.text
        assert not (await client.get("/v1/webhooks")).json()["data"]
