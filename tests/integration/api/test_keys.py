"""`/v1/keys`: shown once, scoped, rotated, revoked; a caller grants only what it has itself."""

import asyncio
import time
from typing import Any

import httpx2
import pytest

from accounts.api_keys import SHOWN
from accounts.caller import Role, digest_of
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Keys,
    RunningApi,
    chat_job,
    connect,
    on_both_databases,
    submit,
)
from tests.support.keys import make_key
from tests.support.machine import is_over
from tests.support.waiting import eventually

KEYS = "/v1/keys"

#: Fields that do not depend on the kind of database.
SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"])


database_url = pytest.fixture(on_both_databases)


async def create(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    made = await client.post(KEYS, json=fields)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def me(api: RunningApi, key: str) -> httpx2.Response:
    async with connect(api, key) as client:
        return await client.get("/v1/me")


async def refused(api: RunningApi, key: str, within: float = 1.0) -> None:
    """The key is refused after at most so many seconds."""
    began = time.monotonic()

    async def gone() -> bool:
        return (await me(api, key)).status_code == 401

    await eventually(gone)
    assert not is_over(began, within + 0.5)  # the time of the check itself


async def test_a_key_is_shown_once_found_by_its_beginning_and_kept_as_a_hash(
    admin: httpx2.AsyncClient, api: RunningApi, store: JobStore
) -> None:
    made = await create(admin, name="ci", limits={"requests_per_minute": 7})
    secret = made["key"]
    assert (await me(api, secret)).json()["limits"]["requests_per_minute"] == 7

    shown = (await admin.get(f"{KEYS}/{made['id']}")).json()
    assert shown == {name: value for name, value in made.items() if name != "key"}
    listed = await admin.get(KEYS, params={"prefix": secret[:SHOWN]})
    assert [one["id"] for one in listed.json()["data"]] == [made["id"]]
    assert secret not in listed.text
    kept: Any = await store.redis.hgetall(store.keys.callers)
    assert secret.encode() not in b"".join([*kept, *kept.values()])
    assert digest_of(secret).encode() in kept


@SQLITE
async def test_lists_come_in_pages(admin: httpx2.AsyncClient) -> None:
    ids = [(await create(admin, name=str(number)))["id"] for number in range(5)]
    found: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = (await admin.get(KEYS, params={"limit": 2, **after})).json()
        found += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert [one for one in found if one in ids] == ids[::-1]
    assert len(found) == len(set(found))


async def test_a_revoked_key_is_refused_and_stays_so(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    made = await create(admin)
    assert (await me(api, made["key"])).status_code == 200
    for _ in range(2):
        assert (await admin.delete(f"{KEYS}/{made['id']}")).status_code == 204
    await refused(api, made["key"])
    for path, body in ((f"{KEYS}/{made['id']}", {"name": "x"}),):
        assert (await admin.patch(path, json=body)).status_code == 404
    assert (await admin.post(f"{KEYS}/{made['id']}/rotate", json={})).status_code == 404
    assert (await admin.get(f"{KEYS}/{made['id']}")).json()["revoked_at"] > 0


async def test_a_rotated_key_goes_on_for_the_overlap_and_its_successor_is_like_it(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    old = await create(admin, name="ci", models=[MODEL], limits={"max_queued": 3})
    made = await admin.post(f"{KEYS}/{old['id']}/rotate", json={"overlap_seconds": 3})
    new = made.json()
    assert made.status_code == 201
    assert new["rotated_from"] == old["id"]
    same = ("name", "models", "limits", "role", "account", "routes", "networks", "weight")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert (await me(api, new["key"])).status_code == 200
    assert (await me(api, old["key"])).status_code == 200

    await refused(api, old["key"], within=4.0)
    answer = await me(api, old["key"])
    assert "expired" in answer.json()["detail"]
    assert (await me(api, new["key"])).status_code == 200


@SQLITE
async def test_an_end_can_be_set_and_taken_away(admin: httpx2.AsyncClient, api: RunningApi) -> None:
    made = await create(admin, expires_at=time.time() + 3600)
    changed = await admin.patch(f"{KEYS}/{made['id']}", json={"expires_at": time.time() - 1})
    assert changed.status_code == 200
    await refused(api, made["key"])
    await admin.patch(f"{KEYS}/{made['id']}", json={"expires_at": None})

    async def good() -> bool:
        return (await me(api, made["key"])).status_code == 200

    await eventually(good)


@SQLITE
async def test_a_key_for_some_models_sees_and_uses_no_others(
    admin: httpx2.AsyncClient, api: RunningApi, store: JobStore
) -> None:
    del store
    scoped = await create(admin, models=["another"])
    async with connect(api, scoped["key"]) as client:
        assert (await client.get("/v1/models")).json()["data"] == []
        openai = await client.get(f"/v1/models/{MODEL}")
        assert (openai.status_code, openai.json()["error"]["code"]) == (403, "model_forbidden")
        ours = await client.post("/v1/jobs", json=chat_job())
        assert (ours.status_code, ours.json()["code"]) == (403, "model-forbidden")
        assert ours.json()["param"] == "model"
    await admin.patch(f"{KEYS}/{scoped['id']}", json={"models": [MODEL]})

    async def allowed() -> bool:
        async with connect(api, scoped["key"]) as client:
            return [m["id"] for m in (await client.get("/v1/models")).json()["data"]] == [MODEL]

    await eventually(allowed)


@SQLITE
async def test_a_key_for_some_models_repeats_no_job_of_another(
    admin: httpx2.AsyncClient, api: RunningApi, store: JobStore
) -> None:
    job = await submit(admin)
    await store.cancel(job, "acme")
    scoped = await create(admin, models=["another"])
    async with connect(api, scoped["key"]) as client:
        again = await client.post(f"/v1/jobs/{job}/retry")
    assert (again.status_code, again.json()["code"]) == (403, "model-forbidden")


@SQLITE
async def test_a_key_for_some_routes_reaches_no_others(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    scoped = await create(admin, routes=["jobs", "models"])
    async with connect(api, scoped["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        refused = await client.get("/v1/usage")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "'usage'" in refused.json()["detail"]


@SQLITE
async def test_a_limited_admin_key_cannot_make_itself_an_unlimited_one(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    for limit in (
        {"models": ["m"]},
        {"routes": ["keys", "users", "account"]},
        {"networks": ["127.0.0.0/8"]},
        {"expires_at": time.time() + 60},
    ):
        limited = await create(admin, role="admin", **limit)
        async with connect(api, limited["key"]) as client:
            for method, path in (
                ("POST", KEYS),
                ("PATCH", f"{KEYS}/{limited['id']}"),
                ("POST", f"{KEYS}/{limited['id']}/rotate"),
                ("DELETE", f"{KEYS}/{limited['id']}"),
                ("POST", "/v1/users"),
                ("PATCH", "/v1/account"),
            ):
                answer = await client.request(method, path, json={})
                assert answer.status_code == 403, (limit, method, path)


@SQLITE
async def test_a_key_works_from_its_networks_only(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    here = await create(admin, networks=["127.0.0.0/8", "::1/128"])
    elsewhere = await create(admin, networks=["192.0.2.0/24"])
    assert (await me(api, here["key"])).status_code == 200
    answer = await me(api, elsewhere["key"])
    assert (answer.status_code, answer.json()["code"]) == (403, "address-forbidden")
    async with connect(api, elsewhere["key"]) as client:  # no proxy is trusted here
        forged = await client.get("/v1/me", headers={"X-Forwarded-For": "192.0.2.1"})
    assert forged.status_code == 403


@SQLITE
async def test_nobody_gives_more_than_they_have(
    admin: httpx2.AsyncClient, api: RunningApi, settings: Settings, keys: Keys
) -> None:
    weight = await admin.post(KEYS, json={"weight": 10})
    assert (weight.status_code, weight.json()["param"]) == (403, "weight")
    foreign = await admin.post(KEYS, json={"account": "other"})
    assert (foreign.status_code, foreign.json()["param"]) == (403, "account")
    async with connect(api, make_key(settings, role=Role.MEMBER)) as member:
        # Else a thief of a member's key could make another and survive its revocation.
        for method, path in (("GET", KEYS), ("POST", KEYS)):
            answer = await member.request(method, path, json={})
            assert answer.status_code == 403
    async with connect(api, keys.admin) as operator:
        made = await operator.post(KEYS, json={"account": "other", "weight": 10})
        assert (made.status_code, made.json()["account"]) == (201, "other")
        missing = await operator.post(KEYS, json={"account": "nobody"})
        assert (missing.status_code, missing.json()["code"]) == (404, "account-not-found")


async def test_the_operators_keys_are_out_of_reach_for_admins_of_its_account(
    api: RunningApi, settings: Settings, keys: Keys
) -> None:
    async with connect(api, keys.admin) as operator:
        own = (await operator.get("/v1/me")).json()["id"]
        assert (await operator.get(f"{KEYS}/{own}")).json()["operator"] is True
    async with connect(api, make_key(settings, "root", role=Role.ADMIN)) as admin:
        assert own not in (await admin.get(KEYS)).text
        for method, path in (
            ("GET", f"{KEYS}/{own}"),
            ("PATCH", f"{KEYS}/{own}"),
            ("POST", f"{KEYS}/{own}/rotate"),
            ("DELETE", f"{KEYS}/{own}"),
        ):
            answer = await admin.request(method, path, json={})
            assert (answer.status_code, answer.json()["code"]) == (404, "key-not-found"), method


async def test_another_accounts_key_looks_unknown(
    admin: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    made = await create(admin)
    unknown = f"{KEYS}/key_{'0' * 32}"
    for method, tail in (("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("DELETE", "")):
        answers = [
            await other.request(method, f"{path}{tail}", json={})
            for path in (f"{KEYS}/{made['id']}", unknown)
        ]
        assert [one.status_code for one in answers] == [404, 404]
        texts = [
            one.json()["detail"].replace(made["id"], "").replace(unknown[9:], "") for one in answers
        ]
        assert texts[0] == texts[1]
    assert made["id"] not in (await other.get(KEYS)).text


WRONG: list[tuple[Any, Any]] = [
    ({"name": "a\x00b"}, "name"),
    ({"name": "x" * 129}, "name"),
    ({"role": "root"}, "role"),
    ({"models": []}, "models"),
    ({"models": ["a", 7]}, "models[1]"),
    ({"routes": ["nowhere"]}, "routes[0]"),
    ({"networks": ["10.0.0.1/8"]}, "networks[0]"),
    ({"networks": ["everywhere"]}, "networks[0]"),
    ({"limits": {"max_running": -1}}, "limits.max_running"),
    ({"limits": {"max_running": 1.5}}, "limits.max_running"),
    ({"limits": {"max_running": 2**60}}, "limits.max_running"),
    ({"limits": {"tokens": 1}}, "limits.tokens"),
    ({"weight": 0}, "weight"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"account": "../etc"}, "account"),
    ({"operator": True}, "operator"),
    ({"sha256": "0" * 64}, "sha256"),
]


@SQLITE
async def test_a_wrong_field_is_named(admin: httpx2.AsyncClient) -> None:
    for body, field in WRONG:
        for method, path in (("POST", KEYS), ("PATCH", f"{KEYS}/key_{'0' * 32}")):
            answer = await admin.request(method, path, json=body)
            assert answer.status_code == 422, (method, answer.text)
            assert field in answer.json()["detail"]


@SQLITE
async def test_ids_and_prefixes_of_no_form_are_refused(admin: httpx2.AsyncClient) -> None:
    for name in ("x", "key_%00", "key_" + "0" * 31, "..", "key_' OR 1=1"):
        assert (await admin.get(f"{KEYS}/{name}")).status_code in (404, 405), name
    for prefix in ("%", "pk_%", "pk_' OR", "sk_1"):
        assert (await admin.get(KEYS, params={"prefix": prefix})).status_code == 422, prefix


async def test_what_is_done_to_keys_stands_in_the_audit_log(
    admin: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    made = await create(admin, name="ci")
    new = (await admin.post(f"{KEYS}/{made['id']}/rotate", json={})).json()
    await admin.patch(f"{KEYS}/{new['id']}", json={"name": "x"})
    await admin.delete(f"{KEYS}/{new['id']}")
    page = (await admin.get("/v1/audit", params={"limit": 4})).json()
    told = [(one["action"], one["target"]) for one in page["data"]]
    assert told == [
        ("key_revoked", new["id"]),
        ("key_changed", new["id"]),
        ("key_rotated", made["id"]),
        ("key_created", made["id"]),
    ]
    who = (await admin.get("/v1/me")).json()["id"]
    assert {one["actor"] for one in page["data"]} == {who}
    assert new["key"] not in str(page)
    following = await admin.get("/v1/audit", params={"limit": 4, "after": page["last_id"]})
    assert page["data"][-1]["id"] not in [one["id"] for one in following.json()["data"]]
    theirs = (await other.get("/v1/audit")).text
    assert made["id"] not in theirs
    assert (await other.get("/v1/audit", params={"account": "acme"})).status_code == 404
    assert (await other.get("/v1/audit", params={"after": "x"})).status_code == 400


@SQLITE
async def test_many_callers_at_once_cost_redis_few_round_trips(
    api: RunningApi, keys: Keys, store: JobStore
) -> None:
    info: Any = await store.redis.info("commandstats")
    before = info.get("cmdstat_hmget", {"calls": 0})["calls"]
    async with connect(api, keys.acme) as client:
        answers = await asyncio.gather(*(client.get("/v1/me") for _ in range(200)))
    assert {one.status_code for one in answers} == {200}
    info = await store.redis.info("commandstats")
    assert info["cmdstat_hmget"]["calls"] - before < 30
