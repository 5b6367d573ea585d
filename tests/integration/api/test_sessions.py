"""Sessions over HTTP: sign in, refresh, sign out."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest

from accounts.access_tokens import ALGORITHM, AUDIENCE, ISSUER
from accounts.passwords import Passwords
from tests.conftest import JWT_SECRET
from tests.integration.api.conftest import Keys, RunningApi, on_both_databases
from tests.support.machine import is_over
from tests.support.waiting import eventually

EMAIL, PASSWORD = "ann@example.com", "correct horse battery"
LOGIN, REFRESH, LOGOUT = (f"/v1/auth/{name}" for name in ("login", "refresh", "logout"))
ATTEMPTS, PER_ADDRESS = 3, 8

#: Fields that do not depend on the kind of database.
SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"])


pytestmark = pytest.mark.settings(
    auth__jwt_secret=JWT_SECRET,
    auth__attempts=ATTEMPTS,
    auth__attempts_per_address=PER_ADDRESS,
    auth__attempts_seconds=3600,
)


database_url = pytest.fixture(on_both_databases)


@pytest.fixture
async def ann(admin: httpx2.AsyncClient) -> dict[str, Any]:
    """A member of acme with a password."""
    body = {"email": EMAIL, "role": "member", "password": PASSWORD}
    made = await admin.post("/v1/users", json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


@pytest.fixture
async def anonymous(api: RunningApi) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a key."""
    async with httpx2.AsyncClient(base_url=api.url, timeout=20) as opened:
        yield opened


async def sign_in(
    anonymous: httpx2.AsyncClient, email: str = EMAIL, password: str = PASSWORD
) -> httpx2.Response:
    return await anonymous.post(LOGIN, json={"email": email, "password": password})


async def session(anonymous: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await sign_in(anonymous)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def me(anonymous: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await anonymous.get("/v1/me", headers={"Authorization": f"Bearer {token}"})


async def over(anonymous: httpx2.AsyncClient, token: str) -> None:
    """The token is refused within a second."""

    async def refused() -> bool:
        answer = await me(anonymous, token)
        return answer.status_code == 401 and answer.json()["code"] in (
            *("session-over", "unauthenticated"),
        )

    began = time.monotonic()
    await eventually(refused)
    assert not is_over(began, 1.5)


async def test_a_password_brings_a_token_that_acts_for_the_person(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    answer = await sign_in(anonymous, "  Ann@Example.COM ")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = (await me(anonymous, answer.json()["access_token"])).json()
    assert (found["id"], found["account"], found["role"]) == (ann["id"], "acme", "member")
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await anonymous.get("/v1/jobs", headers=headers)).status_code == 200
    assert (await anonymous.get("/v1/users", headers=headers)).status_code == 403
    key = await anonymous.post("/v1/keys", headers=headers, json={"name": "mine"})
    assert key.status_code == 201
    assert key.json()["user"] == ann["id"]
    mine = (await anonymous.get("/v1/keys", headers=headers)).json()["data"]
    assert [one["id"] for one in mine] == [key.json()["id"]], "a member sees only their own"
    more = await anonymous.post("/v1/keys", headers=headers, json={"role": "admin"})
    assert (more.status_code, more.json()["param"]) == (403, "role")


@SQLITE
async def test_wrong_email_and_wrong_password_look_alike_and_take_the_same_way(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del ann
    compared: list[bool] = []
    whole = Passwords._verify

    def counted(self: Passwords, stored: str | None, password: str) -> bool:
        compared.append(stored is not None)
        return whole(self, stored, password)

    monkeypatch.setattr(Passwords, "_verify", counted)
    answers = [
        await sign_in(anonymous, password="wrong"),
        await sign_in(anonymous, "bob@example.com"),
    ]
    assert compared == [True, False], "a hash is computed for both"
    for answer in answers:
        assert answer.status_code == 401
    bodies = [{**answer.json(), "request_id": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert bodies[0]["code"] == "wrong-password"


@SQLITE
async def test_attempts_are_counted_exactly_whatever_comes_at_once(
    start_api: Any, ann: dict[str, Any], api: RunningApi
) -> None:
    del ann
    second = start_api()
    clients = [httpx2.AsyncClient(base_url=one.url, timeout=30) for one in (api, second)]
    answers = await asyncio.gather(
        *(sign_in(clients[number % 2], password="wrong") for number in range(24))
    )
    codes = [answer.status_code for answer in answers]
    assert (codes.count(401), codes.count(429)) == (ATTEMPTS, 24 - ATTEMPTS)
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "too-many-sign-ins"
    assert 1 <= int(refused.headers["retry-after"]) <= 3600 / ATTEMPTS + 1
    # With the right password as well: the answer does not confirm a guess.
    assert (await sign_in(clients[0])).status_code == 429
    assert (await sign_in(clients[1], "bob@example.com")).status_code == 401, "others may"
    for client in clients:
        await client.aclose()


@SQLITE
async def test_one_address_cannot_try_one_password_on_everybody(
    anonymous: httpx2.AsyncClient,
) -> None:
    answers = [
        await anonymous.post(LOGIN, json={"email": f"u{number}@example.com", "password": ""})
        for number in range(3)
    ]
    assert {one.status_code for one in answers} == {422}, "what is no attempt is not counted"
    answers = await asyncio.gather(
        *(sign_in(anonymous, f"u{number}@example.com") for number in range(PER_ADDRESS + 4))
    )
    codes = [one.status_code for one in answers]
    assert (codes.count(401), codes.count(429)) == (PER_ADDRESS, 4)


@SQLITE
async def test_a_right_password_forgives_the_attempts_before(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    del ann
    for _ in range(2):
        for _ in range(ATTEMPTS - 1):
            assert (await sign_in(anonymous, password="wrong")).status_code == 401
        assert (await sign_in(anonymous)).status_code == 200


@SQLITE
@pytest.mark.settings(api__trusted_proxies=["127.0.0.0/8"])
async def test_wrong_passwords_of_strangers_lock_nobody_out_at_a_known_place(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    del ann

    async def tried(place: str, password: str, email: str = EMAIL) -> int:
        headers = {"X-Forwarded-For": place}
        body = {"email": email, "password": password}
        return (await anonymous.post(LOGIN, json=body, headers=headers)).status_code

    home, stranger = "198.51.100.1", "203.0.113.9"
    assert await tried(home, PASSWORD) == 200
    codes = [await tried(stranger, "wrong") for _ in range(ATTEMPTS + 1)]
    assert codes == [401] * ATTEMPTS + [429]
    assert await tried(stranger, PASSWORD) == 429, "a guess is not confirmed"
    assert await tried(home, PASSWORD) == 200
    codes = [await tried(home, "wrong", f"u{number}@example.com") for number in range(PER_ADDRESS)]
    assert codes == [401] * (PER_ADDRESS - 1) + [429], "her first sign-in counted, too"
    assert await tried(home, PASSWORD) == 200


async def test_a_refresh_token_works_once_and_its_reuse_ends_the_session(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    del ann
    other = await session(anonymous)
    first = await session(anonymous)
    second = (await anonymous.post(REFRESH, json={"refresh_token": first["refresh_token"]})).json()
    assert (await me(anonymous, second["access_token"])).status_code == 200

    again = await anonymous.post(REFRESH, json={"refresh_token": first["refresh_token"]})
    assert (again.status_code, again.json()["code"]) == (401, "session-over")
    stolen = await anonymous.post(REFRESH, json={"refresh_token": second["refresh_token"]})
    assert stolen.status_code == 401, "the holder of the newer one is signed out, too"
    await over(anonymous, second["access_token"])
    assert (await me(anonymous, other["access_token"])).status_code == 200, "other sessions go on"


async def test_of_two_refreshes_at_once_one_wins(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    del ann
    token = (await session(anonymous))["refresh_token"]
    answers = await asyncio.gather(
        *(anonymous.post(REFRESH, json={"refresh_token": token}) for _ in range(6))
    )
    assert sorted(one.status_code for one in answers) == [200, *[401] * 5]


async def test_signing_out_ends_this_session_at_once_and_no_other(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    del ann
    one, two = await session(anonymous), await session(anonymous)
    for _ in range(2):
        answer = await anonymous.post(LOGOUT, json={"refresh_token": one["refresh_token"]})
        assert answer.status_code == 204
    await over(anonymous, one["access_token"])
    refused = await anonymous.post(REFRESH, json={"refresh_token": one["refresh_token"]})
    assert refused.status_code == 401
    assert (await me(anonymous, two["access_token"])).status_code == 200
    unknown = await anonymous.post(LOGOUT, json={"refresh_token": "rt_unknown"})
    assert unknown.status_code == 204


async def test_a_new_password_ends_every_session_and_works_at_once(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    del ann
    old = await session(anonymous)
    headers = {"Authorization": f"Bearer {old['access_token']}"}
    wrong = {"current": "wrong", "password": "another good one"}
    assert (await anonymous.post("/v1/me/password", headers=headers, json=wrong)).status_code == 401
    weak = {"current": PASSWORD, "password": "short"}
    answer = await anonymous.post("/v1/me/password", headers=headers, json=weak)
    assert (answer.status_code, answer.json()["param"]) == (422, "password")
    right = {"current": PASSWORD, "password": "another good one"}
    assert (await anonymous.post("/v1/me/password", headers=headers, json=right)).status_code == 204
    new = await sign_in(anonymous, password="another good one")
    assert (await me(anonymous, new.json()["access_token"])).status_code == 200, "at once"
    await over(anonymous, old["access_token"])
    refused = await anonymous.post(REFRESH, json={"refresh_token": old["refresh_token"]})
    assert refused.status_code == 401
    assert (await sign_in(anonymous)).status_code == 401


@SQLITE
async def test_a_key_has_no_password(admin: httpx2.AsyncClient) -> None:
    body = {"current": PASSWORD, "password": "another good one"}
    assert (await admin.post("/v1/me/password", json=body)).status_code == 403


def forged(**changes: Any) -> dict[str, Any]:
    instant = int(time.time())
    content = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": instant,
        "exp": instant + 600,
        "sub": "",
        "sid": "session_1",
        "ver": 1,
    }
    return {**content, **changes}


@SQLITE
async def test_only_a_token_that_was_given_out_here_is_good(
    anonymous: httpx2.AsyncClient, ann: dict[str, Any]
) -> None:
    good = (await session(anonymous))["access_token"]
    content = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    flipped = signature[:-2] + ("AA" if signature[-2:] != "AA" else "BB")
    expired = {**content, "exp": int(time.time()) - 1}
    bad = {
        "another signature": f"{head}.{body}.{flipped}",
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{body[:-2]}AA.{signature}",
        "alg none": jwt.encode(content, None, algorithm="none"),
        "another secret": jwt.encode(content, "another secret of enough characters", ALGORITHM),
        "another algorithm": jwt.encode(content, JWT_SECRET, "HS512"),
        "expired": jwt.encode(expired, JWT_SECRET, ALGORITHM),
        "another audience": jwt.encode({**content, "aud": "else"}, JWT_SECRET, ALGORITHM),
        "another issuer": jwt.encode({**content, "iss": "else"}, JWT_SECRET, ALGORITHM),
        "an unknown user": jwt.encode(
            {**content, "sub": f"user_{'0' * 32}"}, JWT_SECRET, ALGORITHM
        ),
        "an older session": jwt.encode({**content, "ver": 0}, JWT_SECRET, ALGORITHM),
        "a later session": jwt.encode({**content, "ver": 2}, JWT_SECRET, ALGORITHM),
        "no end": jwt.encode(
            {name: value for name, value in content.items() if name != "exp"},
            JWT_SECRET,
            ALGORITHM,
        ),
        "nothing": "..",
        "a key's digest": "0" * 64,
    }
    assert jwt.encode(forged(sub=ann["id"]), JWT_SECRET, ALGORITHM) != good
    for why, token in bad.items():
        answer = await me(anonymous, token)
        assert answer.status_code == 401, why
        assert answer.headers["www-authenticate"] == 'Bearer realm="penstock"'
    assert (await me(anonymous, good)).status_code == 200


@SQLITE
async def test_failed_sign_ins_stand_in_the_audit_log(
    anonymous: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    ann: dict[str, Any],
) -> None:
    token = (await session(anonymous))["access_token"]
    await sign_in(anonymous, password="wrong")
    await sign_in(anonymous, "stranger@example.com")
    change = {"current": "wrong", "password": "another good one"}
    headers = {"Authorization": f"Bearer {token}"}
    assert (
        await anonymous.post("/v1/me/password", json=change, headers=headers)
    ).status_code == 401
    await admin.patch(f"/v1/users/{ann['id']}", json={"disabled": True})
    assert (await sign_in(anonymous)).status_code == 401

    def failures(page: httpx2.Response) -> list[tuple[str, str, str]]:
        return [
            (one["action"], one["target"], one["details"]["reason"])
            for one in page.json()["data"]
            if one["action"].endswith("_failed")
        ]

    ours = [
        ("sign_in_failed", ann["id"], "user_disabled"),
        ("password_change_failed", ann["id"], "wrong_password"),
        ("sign_in_failed", ann["id"], "wrong_password"),
    ]
    page = await admin.get("/v1/audit")
    assert failures(page) == ours
    assert {
        one["details"]["address"] for one in page.json()["data"] if "_failed" in one["action"]
    } == {"127.0.0.1"}
    stranger = [one for one in failures(await operator.get("/v1/audit")) if one not in ours]
    assert [(action, reason) for action, _, reason in stranger] == [
        ("sign_in_failed", "unknown_email")
    ]
    assert "stranger" not in page.text


@SQLITE
async def test_no_password_and_no_token_is_logged(
    anonymous: httpx2.AsyncClient,
    ann: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capsys: Any,
) -> None:
    del ann
    found = await session(anonymous)
    await sign_in(anonymous, password="secret guess of mine")
    await anonymous.post(LOGIN, json={"email": 7, "password": "secret guess of mine"})
    said = caplog.text + "".join(capsys.readouterr())
    for secret in (PASSWORD, "secret guess", found["refresh_token"], found["access_token"]):
        assert secret not in said


WRONG: list[tuple[Any, Any]] = [
    (LOGIN, {}),
    (LOGIN, {"email": "x", "password": "y"}),
    (LOGIN, {"email": "a\x00@b.c", "password": "y"}),
    (LOGIN, {"email": EMAIL, "password": "x" * 257}),
    (LOGIN, {"email": EMAIL, "password": PASSWORD, "more": 1}),
    (REFRESH, {"refresh_token": 7}),
    (REFRESH, {}),
    (LOGOUT, {"token": "x"}),
]


@SQLITE
async def test_bad_bodies_are_refused_without_an_echo(anonymous: httpx2.AsyncClient) -> None:
    for path, body in WRONG:
        answer = await anonymous.post(path, json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert "xxxx" not in answer.text


async def test_a_key_may_come_as_x_api_key(api: RunningApi, keys: Keys) -> None:
    async with httpx2.AsyncClient(base_url=api.url) as client:
        good = await client.get("/v1/me", headers={"X-API-Key": keys.acme})
        assert (good.status_code, good.json()["account"]) == (200, "acme")
        wrong = await client.get("/v1/me", headers={"X-API-Key": "pk_wrong"})
        assert wrong.status_code == 401
        both = {"X-API-Key": keys.acme, "Authorization": "Bearer pk_wrong"}
        assert (await client.get("/v1/me", headers=both)).status_code == 401
        assert (await client.get("/v1/me")).status_code == 401


async def test_the_path_without_a_version_signs_in_too(api: RunningApi, keys: Keys) -> None:
    person = {"email": "bo@acme.example.com", "password": "correct horse battery"}
    headers = {"Authorization": f"Bearer {keys.acme}"}
    async with httpx2.AsyncClient(base_url=api.url) as client:
        assert (await client.post("/v1/users", json=person, headers=headers)).is_success
        session = await client.post("/auth/login", json=person)
        assert session.status_code == 200, session.text
        token = session.json()["access_token"]
        me = await client.get("/v1/me", headers={"X-API-Key": token})
        assert me.json()["account"] == "acme"
        wrong = await client.post("/auth/login", json=person | {"password": "no"})
        assert wrong.status_code in (401, 422)
