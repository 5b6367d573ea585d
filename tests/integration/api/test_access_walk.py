"""Every route, called over HTTP without a key, by each role, the operator and another account.

A new route must stand in `intake.permissions`; a new kind of id also in `NOTHING`.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
import pytest

from accounts.caller import Role
from accounts.directory_factory import directory_of
from core.settings.tree import Settings
from intake.permissions import TABLE
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.integration.api.conftest import MODEL, RunningApi, chat_job
from tests.support.keys import make_key, sqlite_in, wait_for
from tests.support.redis_server import RedisServer

PASSWORD = "correct horse battery"
OPERATOR = "operator"
PARAM = re.compile(r"\{(\w+)(?::path)?\}")
#: Ids that do not exist, by path parameter.
NOTHING = {
    "job_id": f"job_{'0' * 32}",
    "response_id": f"resp_{'0' * 32}",
    "file_id": f"file_{'0' * 32}",
    "batch_id": f"batch_{'0' * 32}",
    "invoice": "2020-01-0001",
    "webhook": f"whe_{'0' * 32}",
    "delivery": f"whd_{'0' * 32}",
    "key_id": f"key_{'0' * 32}",
    "user_id": f"user_{'0' * 32}",
    "account": "nobody",
    "name": "no-such-model",
    "model": "no-such-model",
}
#: Path parameters of objects without an owner: models and, for the operator, queues and accounts.
SHARED = {"name", "model", "account"}
#: Objects that need a closed month or a delivery: tested in `test_billing` and `test_webhooks`.
MADE_ELSEWHERE = {"invoice", "delivery"}

ROUTES = {route: access for route, access in TABLE.items() if not access.public}


@dataclass
class Stage:
    """A server, a token for each kind of caller, and what acme owns."""

    url: str
    tokens: dict[str, str]
    owned: dict[str, str]

    def client(self, who: str | None) -> httpx2.AsyncClient:
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens[who]}"}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def stage(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("walk")
    settings = settings_for(
        redis_server,
        api={"port": 0},
        database=sqlite_in(directory),
        files={"url": f"file:{directory}/files"},
    )
    owner, other = make_key(settings, role=Role.ADMIN), make_key(settings, "other")
    wait_for(_people(settings))
    running = RunningApi(settings)
    running.start()
    try:
        owned = wait_for(_own(running.url, owner))
        tokens = {"owner": owner, "other": other, **wait_for(_sign_in(running.url))}
        yield Stage(running.url, tokens, owned)
    finally:
        running.stop()


def email(who: str) -> str:
    return f"{who}@other.example.com"


async def _people(settings: Settings) -> None:
    """Register a model, and create a user of each role in the other account."""
    store = open_store(settings)
    await ModelRegistry(store.redis, store.keys).register(ServedModel(MODEL, 4096, "none", 1))
    await store.close()
    async with directory_of(settings, "test") as directory:
        for who in (*Role, OPERATOR):
            role = Role.ADMIN if who == OPERATOR else Role(who)
            operator = who == OPERATOR
            await directory.users.create(
                "test", "other", email(who), role, PASSWORD, operator=operator
            )


async def _sign_in(url: str) -> dict[str, str]:
    tokens = {}
    async with httpx2.AsyncClient(base_url=url, timeout=30) as anonymous:
        for who in (*Role, OPERATOR):
            body = {"email": email(who), "password": PASSWORD}
            answer = await anonymous.post("/v1/auth/login", json=body)
            tokens[str(who)] = answer.json()["access_token"]
    return tokens


async def _own(url: str, key: str) -> dict[str, str]:
    """Create one object of each kind that an account owns; return the ids."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as client:

        async def made(path: str, **options: Any) -> str:
            answer = await client.post(path, **options)
            assert answer.is_success, answer.text
            return str(answer.json()["id"])

        line = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {}}
        data = orjson.dumps(line)
        file = await made(
            "/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": "batch"}
        )
        batch = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
        background = {"model": MODEL, "input": "hello", "background": True}
        return {
            "job_id": await made("/v1/jobs", json=chat_job()),
            "response_id": await made("/v1/responses", json=background),
            "file_id": file,
            "batch_id": await made("/v1/batches", json=batch),
            "webhook": await made("/v1/webhooks", json={"url": "https://hooks.example.com/in"}),
            "key_id": await made("/v1/keys", json={}),
            "user_id": await made("/v1/users", json={"email": "ann@acme.example.com"}),
        }


def path_of(route: str, ids: dict[str, str]) -> tuple[str, str]:
    method, path = route.split(" ", 1)
    return method, PARAM.sub(lambda found: ids[found[1]], path)


async def call(client: httpx2.AsyncClient, method: str, path: str) -> httpx2.Response:
    body: dict[str, Any] = {"json": {}} if method in ("POST", "PATCH", "PUT") else {}
    return await client.request(method, path, **body)


@pytest.mark.parametrize("route", ROUTES)
async def test_without_a_key_nothing_is_answered(stage: Stage, route: str) -> None:
    async with stage.client(None) as nobody:
        answer = await call(nobody, *path_of(route, NOTHING))
    assert answer.status_code == 401


@pytest.mark.parametrize("who", [*Role, OPERATOR])
async def test_each_role_is_let_in_where_the_table_says_so(stage: Stage, who: str) -> None:
    async with stage.client(who) as client:
        for route, access in ROUTES.items():
            answer = await call(client, *path_of(route, NOTHING))
            allowed = who == OPERATOR or who in access.roles
            assert (answer.status_code == 403) is not allowed, (route, who, answer.text[:300])
            assert answer.status_code < 500, (route, who, answer.text[:300])


OWNED = [route for route in ROUTES if not set(PARAM.findall(route)) <= SHARED | MADE_ELSEWHERE]


@pytest.mark.parametrize("route", OWNED)
async def test_what_another_account_owns_looks_as_if_it_were_not_there(
    stage: Stage, route: str
) -> None:
    kind = PARAM.findall(route)[0]
    async with stage.client(Role.ADMIN) as stranger:
        foreign = await call(stranger, *path_of(route, stage.owned))
        unknown = await call(stranger, *path_of(route, NOTHING))
    assert foreign.status_code in (404, 422), foreign.text
    assert without(foreign, stage.owned[kind]) == without(unknown, NOTHING[kind])


def without(answer: httpx2.Response, one: str) -> tuple[int, str]:
    """Return an answer without the fields that differ between requests."""
    return answer.status_code, re.sub(r"req_\w+", "", answer.text.replace(one, ""))


@pytest.mark.parametrize(
    "route", [name for name in ROUTES if name.startswith("GET") and "{" not in name]
)
async def test_no_list_shows_what_another_account_owns(stage: Stage, route: str) -> None:
    async with stage.client(Role.ADMIN) as stranger:
        answer = await call(stranger, *path_of(route, {}))
    for kind, one in stage.owned.items():
        assert one not in answer.text, (kind, answer.text[:300])


def test_every_kind_of_id_is_walked() -> None:
    kinds = {name for route in ROUTES for name in PARAM.findall(route)}
    assert kinds == set(NOTHING)


async def test_the_owner_finds_everything_it_made(stage: Stage) -> None:
    places = {
        "job_id": "jobs",
        "response_id": "responses",
        "file_id": "files",
        "batch_id": "batches",
        "webhook": "webhooks",
        "key_id": "keys",
        "user_id": "users",
    }
    assert set(places) == set(NOTHING) - SHARED - MADE_ELSEWHERE == set(stage.owned)
    async with stage.client("owner") as owner:
        answers = await asyncio.gather(
            *(owner.get(f"/v1/{place}/{stage.owned[kind]}") for kind, place in places.items())
        )
    assert [one.status_code for one in answers] == [200] * len(places)
    for kind, one in stage.owned.items():
        assert re.fullmatch("[0-9a-z]+_", NOTHING[kind].rstrip("0")), kind
        assert one.startswith(NOTHING[kind].rstrip("0")), "ids of nothing have the same form"
        assert len(one) == len(NOTHING[kind]), kind
