"""Users and accounts: roles, disabling, suspending; keys and sessions follow immediately."""

from typing import Any

import httpx2
import pytest

from accounts.caller import Role
from core.settings.tree import Settings
from tests.integration.api.conftest import RunningApi, connect, on_both_databases
from tests.support.keys import make_key
from tests.support.waiting import eventually

PASSWORD = "correct horse battery"
USERS = "/v1/users"

#: Fields that do not depend on the kind of database.
SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"])


database_url = pytest.fixture(on_both_databases)


async def add(client: httpx2.AsyncClient, email: str, role: str = "admin") -> dict[str, Any]:
    made = await client.post(USERS, json={"email": email, "role": role, "password": PASSWORD})
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


async def signed_in(api: RunningApi, email: str) -> httpx2.AsyncClient:
    async with connect(api, "none") as anonymous:
        answer = await anonymous.post("/v1/auth/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return connect(api, answer.json()["access_token"])


async def until(client: httpx2.AsyncClient, status: int, code: str = "") -> None:
    """Wait until the caller is answered so; a second is enough."""

    async def so() -> bool:
        answer = await client.get("/v1/me")
        return answer.status_code == status and answer.json().get("code", "") == code

    await eventually(so, 3)


async def test_a_disabled_user_loses_session_and_keys_and_gets_them_back(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    user = await add(admin, "ann@example.com", "member")
    async with await signed_in(api, "ann@example.com") as ann:
        made = (await ann.post("/v1/keys", json={})).json()
        async with connect(api, made["key"]) as by_key:
            await until(by_key, 200)
            assert (
                await admin.patch(f"{USERS}/{user['id']}", json={"disabled": True})
            ).status_code == 200
            await until(ann, 401, "session-over")
            await until(by_key, 401, "unauthenticated")
            body = {"email": "ann@example.com", "password": PASSWORD}
            assert (await ann.post("/v1/auth/login", json=body)).status_code == 401
            await admin.patch(f"{USERS}/{user['id']}", json={"disabled": False})
            await until(by_key, 200)
            await until(ann, 401, "session-over")


async def test_a_key_never_has_more_rights_than_its_user(
    admin: httpx2.AsyncClient, api: RunningApi
) -> None:
    await add(admin, "another@example.com")
    user = await add(admin, "ann@example.com", "admin")
    async with await signed_in(api, "ann@example.com") as ann:
        made = (await ann.post("/v1/keys", json={"role": "admin"})).json()
    async with connect(api, made["key"]) as by_key:
        assert (await by_key.get("/v1/me")).json()["role"] == "admin"
        await admin.patch(f"{USERS}/{user['id']}", json={"role": "viewer"})

        async def lessened() -> bool:
            return bool((await by_key.get("/v1/me")).json()["role"] == "viewer")

        await eventually(lessened, 3)
        assert (await by_key.get(USERS)).status_code == 403


async def test_an_accounts_last_admin_stays(admin: httpx2.AsyncClient) -> None:
    first = await add(admin, "ann@example.com")
    for change in ({"disabled": True}, {"role": "member"}):
        refused = await admin.patch(f"{USERS}/{first['id']}", json=change)
        assert (refused.status_code, refused.json()["code"]) == (409, "last-admin")
    second = await add(admin, "bob@example.com")
    changed = await admin.patch(f"{USERS}/{first['id']}", json={"role": "member"})
    assert changed.json()["role"] == "member"
    refused = await admin.patch(f"{USERS}/{second['id']}", json={"disabled": True})
    assert refused.status_code == 409


async def test_an_email_belongs_to_one_user_whatever_its_case(
    admin: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    await add(admin, "Ann@Example.com")
    for client in (admin, other):
        again = await client.post(USERS, json={"email": "ann@example.COM"})
        assert (again.status_code, again.json()["code"]) == (409, "email-taken")


async def test_another_accounts_user_looks_unknown(
    admin: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    user = await add(admin, "ann@example.com")
    password = {"password": "yet another one"}
    for user_id in (user["id"], f"user_{'0' * 32}", "user_%00"):
        for method, tail, body in (
            ("GET", "", None),
            ("PATCH", "", {"disabled": True}),
            ("POST", "/password", password),
        ):
            answer = await other.request(method, f"{USERS}/{user_id}{tail}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "user-not-found")
    assert user["id"] not in (await other.get(USERS)).text
    assert (await admin.get(f"{USERS}/{user['id']}")).json()["disabled_at"] is None


async def test_the_operator_is_out_of_reach_for_admins_of_its_account(
    operator: httpx2.AsyncClient, api: RunningApi, settings: Settings
) -> None:
    body = {"email": "op@example.com", "role": "admin", "password": PASSWORD}
    plain = (await operator.post(USERS, json=body)).json()
    assert plain["operator"] is False, "no route makes an operator"
    assert (await operator.post(USERS, json={**body, "operator": True})).status_code == 422
    async with connect(api, make_key(settings, "root", role=Role.ADMIN)) as admin:
        assert (await admin.get(f"{USERS}/{plain['id']}")).status_code == 200


WRONG: list[tuple[Any, Any]] = [
    ({"email": "ann"}, "email"),
    ({"email": "ann@exa mple.com"}, "email"),
    ({"email": "a@b\x00.c"}, "email"),
    ({"email": "ann@example.com", "role": "king"}, "role"),
    ({"email": "ann@example.com", "password": "short"}, "password"),
    ({"email": "ann@example.com", "password": "aaaaaaaaaaaa"}, "password"),
    ({"email": "ann@example.com", "password": "ANN@example.com"}, "password"),
    ({"email": "ann@example.com", "admin": True}, "admin"),
]


@SQLITE
async def test_a_wrong_field_is_named(admin: httpx2.AsyncClient) -> None:
    for body, param in WRONG:
        answer = await admin.post(USERS, json=body)
        assert (answer.status_code, answer.json()["param"]) == (422, param)


async def test_a_suspended_account_is_refused_everywhere_and_loses_nothing(
    admin: httpx2.AsyncClient, operator: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    suspended = await operator.patch("/v1/accounts/acme", json={"suspended": True})
    assert suspended.json()["suspended_at"] > 0
    await until(admin, 403, "account-suspended")
    openai = await admin.get("/v1/models")
    assert (openai.status_code, openai.json()["error"]["code"]) == (403, "account_suspended")
    await until(other, 200)
    await operator.patch("/v1/accounts/acme", json={"suspended": False})
    await until(admin, 200)


async def test_limits_of_an_account_reach_every_key_of_it(
    admin: httpx2.AsyncClient, operator: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    limits = {"requests_per_minute": 30, "max_running": 2}
    changed = await operator.patch("/v1/accounts/acme", json={"limits": limits})
    assert changed.json()["limits"]["max_running"] == 2

    async def known() -> bool:
        found = (await admin.get("/v1/me")).json()["account_limits"]
        return {**found, **limits} == found

    await eventually(known, 3)
    assert (await other.get("/v1/me")).json()["account_limits"]["max_running"] == 0
    # Fields that are left out do not change.
    more = await operator.patch("/v1/accounts/acme", json={"limits": {"max_queued": 9}})
    assert more.json()["limits"] == {"tokens_per_minute": 0, "max_queued": 9, **limits}


async def test_accounts_are_the_operators_and_ones_own_is_for_all(
    admin: httpx2.AsyncClient, operator: httpx2.AsyncClient, api: RunningApi, settings: Settings
) -> None:
    body = {"id": "fresh", "name": "Fresh Ltd", "limits": {"max_queued": 5}}
    made = await operator.post("/v1/accounts", json=body)
    assert (made.status_code, made.json()["limits"]["max_queued"]) == (201, 5)
    again = await operator.post("/v1/accounts", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "account-exists")
    assert (await operator.get("/v1/accounts/nobody")).status_code == 404
    assert (await operator.get("/v1/accounts/%00")).status_code == 404
    page = (await operator.get("/v1/accounts", params={"limit": 2})).json()
    assert page["has_more"]
    rest = await operator.get("/v1/accounts", params={"after": page["last_id"]})
    ids = [one["id"] for one in (*page["data"], *rest.json()["data"])]
    assert ids == sorted({"acme", "other", "root", "fresh"})
    assert (await admin.get("/v1/accounts")).status_code == 403

    texts = {"name": "Acme", "billing_address": "1 Dam Road\nMill"}
    assert (await admin.patch("/v1/account", json=texts)).json()["name"] == "Acme"
    assert (await admin.patch("/v1/account", json={"limits": {}})).status_code == 422
    async with connect(api, make_key(settings, role=Role.VIEWER)) as viewer:
        assert (await viewer.get("/v1/account")).json()["billing_address"] == "1 Dam Road\nMill"
        assert (await viewer.patch("/v1/account", json=texts)).status_code == 403
