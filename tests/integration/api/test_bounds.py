"""Members do not get out of the bounds that their admin set, on SQLite and on PostgreSQL."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.conftest import JWT_SECRET
from tests.integration.api.conftest import (
    MODEL,
    RunningApi,
    chat_body,
    chat_job,
    connect,
    on_both_databases,
)
from tests.support.waiting import eventually

KEYS, PASSWORD = "/v1/keys", "correct horse battery"

pytestmark = pytest.mark.settings(auth__jwt_secret=JWT_SECRET)

database_url = pytest.fixture(on_both_databases)


@pytest.fixture
async def user(admin: httpx2.AsyncClient) -> dict[str, Any]:
    """Ann, a member of acme."""
    body = {"email": "ann@example.com", "role": "member", "password": PASSWORD}
    made = await admin.post("/v1/users", json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


@pytest.fixture
async def ann(api: RunningApi, user: dict[str, Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with her session."""
    body = {"email": user["email"], "password": PASSWORD}
    async with connect(api, "none") as anonymous:
        token = (await anonymous.post("/v1/auth/login", json=body)).json()["access_token"]
    async with connect(api, token) as opened:
        yield opened


async def create(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    made = await client.post(KEYS, json=fields)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def shows(client: httpx2.AsyncClient, **wanted: Any) -> None:
    """Wait until the API knows these fields of the caller."""

    async def so() -> bool:
        found = (await client.get("/v1/me")).json()
        return {**found, **wanted} == found

    await eventually(so, 3)


async def test_a_member_lifts_no_bound_of_the_admin_also_not_by_rotating(
    admin: httpx2.AsyncClient, ann: httpx2.AsyncClient
) -> None:
    end = time.time() + 3600
    key = await create(ann, networks=["127.0.0.0/8"], routes=["jobs"])
    bounds = {"models": [MODEL], "networks": ["127.0.0.0/8", "::1/128"], "expires_at": end}
    bounds |= {"role": "viewer"}
    assert (await admin.patch(f"{KEYS}/{key['id']}", json=bounds)).status_code == 200
    rotated = (await ann.post(f"{KEYS}/{key['id']}/rotate", json={})).json()
    attempts: dict[str, Any] = {
        "models": None,
        "networks": None,
        "expires_at": None,
        "role": "member",
    }
    for one in (key, rotated):
        for name, value in attempts.items():
            answer = await ann.patch(f"{KEYS}/{one['id']}", json={name: value})
            assert (answer.status_code, answer.json()["param"]) == (403, name)
        later = await ann.patch(f"{KEYS}/{one['id']}", json={"expires_at": end + 60})
        assert (later.status_code, later.json()["param"]) == (403, "expires_at")
    own = await ann.patch(f"{KEYS}/{rotated['id']}", json={"routes": None, "name": "mine"})
    assert (own.status_code, own.json()["routes"]) == (200, None), "a bound of her own"
    lifted = await admin.patch(f"{KEYS}/{rotated['id']}", json={"models": None})
    assert (lifted.status_code, lifted.json()["models"]) == (200, None)
    again = await ann.patch(f"{KEYS}/{rotated['id']}", json={"models": [MODEL]})
    assert again.status_code == 200, "what an admin lifted is hers again"


async def test_an_admin_lifts_no_bound_of_the_operator(
    admin: httpx2.AsyncClient, operator: httpx2.AsyncClient
) -> None:
    key = await create(operator, account="acme", models=[MODEL], limits={"max_queued": 3})
    for name, body in (("models", {"models": None}), ("max_queued", {"limits": {"max_queued": 0}})):
        answer = await admin.patch(f"{KEYS}/{key['id']}", json=body)
        assert (answer.status_code, answer.json()["param"]) == (403, name)
    assert (await operator.patch(f"{KEYS}/{key['id']}", json={"models": None})).status_code == 200


async def test_a_rotated_key_is_not_revived(admin: httpx2.AsyncClient) -> None:
    key = await create(admin)
    rotated = await admin.post(f"{KEYS}/{key['id']}/rotate", json={"overlap_seconds": 600})
    assert rotated.status_code == 201
    end = (await admin.get(f"{KEYS}/{key['id']}")).json()["expires_at"]
    for later in (None, end + 60):
        answer = await admin.patch(f"{KEYS}/{key['id']}", json={"expires_at": later})
        assert (answer.status_code, answer.json()["param"]) == (403, "expires_at")
    earlier = await admin.patch(f"{KEYS}/{key['id']}", json={"expires_at": end - 60})
    assert earlier.status_code == 200


async def test_bounds_of_a_user_cover_the_session_and_every_key_old_and_new(
    admin: httpx2.AsyncClient, ann: httpx2.AsyncClient, api: RunningApi, user: dict[str, Any]
) -> None:
    old = await create(ann, models=[MODEL, "another"])
    bounds = {"models": [MODEL], "limits": {"requests_per_minute": 2}}
    changed = await admin.patch(f"/v1/users/{user['id']}", json=bounds)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["models"], changed.json()["limits"]["requests_per_minute"]) == (
        [MODEL],
        2,
    )
    refused = await ann.patch(f"/v1/users/{user['id']}", json={"models": None})
    assert refused.status_code == 403
    await shows(ann, models=[MODEL])
    new = await create(ann)
    async with connect(api, old["key"]) as first, connect(api, new["key"]) as second:
        for client in (first, second):
            await shows(client, models=[MODEL])
            answer = await client.post("/v1/jobs", json=chat_job(body=chat_body(model="another")))
            assert answer.status_code == 403
        assert (await first.post("/v1/jobs", json=chat_job())).status_code == 202
        assert (await second.post("/v1/jobs", json=chat_job())).status_code == 202
        for client in (first, second, ann):
            answer = await client.post("/v1/jobs", json=chat_job())
            assert (answer.status_code, answer.json()["code"]) == (429, "rate-limited")
            assert "2 requests a minute of this user" in answer.json()["detail"]


async def test_caps_of_a_user_count_the_jobs_of_all_keys(
    admin: httpx2.AsyncClient, ann: httpx2.AsyncClient, api: RunningApi, user: dict[str, Any]
) -> None:
    path = f"/v1/users/{user['id']}"
    await admin.patch(path, json={"limits": {"max_queued": 1}})
    one, two = await create(ann), await create(ann)
    async with connect(api, one["key"]) as first, connect(api, two["key"]) as second:
        assert (await first.post("/v1/jobs", json=chat_job())).status_code == 202
        refused = await second.post("/v1/jobs", json=chat_job())
        assert (refused.status_code, refused.json()["code"]) == (429, "queue-full")
        await admin.patch(path, json={"limits": {"max_queued": 0}})

        async def free() -> bool:
            return (await second.post("/v1/jobs", json=chat_job())).status_code == 202

        await eventually(free, 3)


async def test_routes_of_a_user_hold_for_the_session_too(
    admin: httpx2.AsyncClient, ann: httpx2.AsyncClient, user: dict[str, Any]
) -> None:
    await admin.patch(f"/v1/users/{user['id']}", json={"routes": ["jobs", "account"]})

    async def refused() -> bool:
        return (await ann.post(KEYS, json={})).status_code == 403

    await eventually(refused, 3)
    assert (await ann.get("/v1/jobs")).status_code == 200
