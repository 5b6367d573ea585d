"""A NUL character anywhere in a request gets a clear answer, on SQLite and on PostgreSQL.

PostgreSQL stores no NUL: each place that let one through answered 500.
"""

import copy
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from core.settings.tree import Settings
from intake.permissions import TABLE
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    MODEL,
    Keys,
    RunningApi,
    chat_body,
    chat_job,
    connect,
    make_keys,
    one_api,
)
from tests.integration.api.test_access_walk import NOTHING, PARAM
from tests.support.databases import create_database, drop_database
from tests.support.keys import sqlite_in
from tests.support.redis_server import RedisServer

NUL = "\0"
ACCOUNT = {"name": "Acme", "billing_name": "Acme", "billing_address": "1 Dam Rd", "tax_id": "1"}
LINE = {"url": "https://hooks.example.com/in", "events": ["job.completed"], "description": "d"}
DEAD = {"account": "acme", "model": MODEL, "reason": "engine-error", "after": "x", "dry_run": True}
FILE = f"file_{'0' * 32}"
BATCH = {
    "input_file_id": FILE,
    "endpoint": "/v1/completions",
    "completion_window": "24h",
    "metadata": {"a": "b"},
}
KEY = {
    "name": "n",
    "models": [MODEL],
    "routes": ["chat"],
    "networks": ["10.0.0.0/8"],
    "account": "acme",
}
#: Bodies of the routes that keep or look up what is in them.
BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/auth/login": {"email": "ann@example.com", "password": "correct horse battery"},
    "POST /v1/auth/refresh": {"refresh_token": "rt_x"},
    "POST /v1/auth/logout": {"refresh_token": "rt_x"},
    "PATCH /v1/account": ACCOUNT,
    "POST /v1/accounts": {"id": "new", "currency": "USD", **ACCOUNT},
    "PATCH /v1/accounts/{account}": ACCOUNT,
    "POST /v1/users": {"email": "ann@example.com", "password": "correct horse battery"},
    "PUT /v1/me/password": {"current": "x", "password": "correct horse battery"},
    "POST /v1/keys": KEY,
    "POST /v1/webhooks": LINE,
    "POST /v1/batches": BATCH,
    "POST /v1/dead-letter/requeue": DEAD,
    "POST /v1/dead-letter/delete": DEAD,
    "POST /v1/jobs": chat_job(metadata={"a": "b"}, webhook="https://hooks.example.com/in"),
    "POST /v1/chat/completions": {**chat_body(), "user": "ann", "metadata": {"a": "b"}},
    "POST /v1/responses": {
        "model": MODEL,
        "input": [{"type": "item_reference", "id": f"msg_{'0' * 36}"}],
        "previous_response_id": f"resp_{'0' * 32}",
        "background": True,
    },
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def settings(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """One database of each kind for all tests: they keep nothing."""
    folder = tmp_path_factory.mktemp("nul")
    files = {"url": f"file://{folder}/files"}
    if request.param == "sqlite":
        yield settings_for(redis_server, api={"port": 0}, database=sqlite_in(folder), files=files)
        return
    template = request.getfixturevalue("postgres_template")
    url = create_database(request.getfixturevalue("postgres_url"), template)
    yield settings_for(redis_server, api={"port": 0}, database={"url": url}, files=files)
    drop_database(url)


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture
async def operator(api: RunningApi, keys: Keys) -> Any:
    async with connect(api, keys.admin) as client:
        yield client


def clear(answer: httpx2.Response, about: str) -> None:
    assert 400 <= answer.status_code < 500, f"{about}: {answer.status_code} {answer.text[:300]}"
    error = answer.json().get("error", answer.json())
    assert error.get("detail") or error.get("message"), about


async def test_no_id_and_no_parameter_has_a_nul(operator: httpx2.AsyncClient) -> None:
    document = (await operator.get("/openapi.json")).json()
    asked = 0
    for route in TABLE:
        method, path = route.split(" ", 1)
        for name in PARAM.findall(path):
            for nul in ("%00", "%2500"):
                ids = NOTHING | {name: f"{NOTHING[name]}{nul}"}
                target = PARAM.sub(lambda found, ids=ids: ids[found[1]], path)
                answer = await operator.request(method, target)
                clear(answer, f"{method} {target}")
                asked += 1
        operation = document["paths"].get(path.replace(":path", ""), {}).get(method.lower(), {})
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                target = PARAM.sub(lambda found: NOTHING[found[1]], path)
                target = f"{target}?{parameter['name']}=x%00y"
                answer = await operator.request(method, target)
                assert answer.status_code < 500, f"{method} {target}: {answer.text[:300]}"
                asked += 1
    assert asked > 100


async def test_an_id_with_a_nul_looks_as_if_it_did_not_exist(
    operator: httpx2.AsyncClient,
) -> None:
    for path in ("/v1/files/{}", "/v1/batches/{}", "/v1/billing/invoices/{}", "/v1/jobs/{}"):
        hostile = await operator.get(path.format("x%00"))
        unknown = await operator.get(path.format("x"))
        assert hostile.status_code == unknown.status_code == 404, path


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of each text within a body, and of each name that a client may choose."""
    found = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in found:
        if isinstance(inner, str):
            yield (name,)
        elif isinstance(inner, dict | list):
            yield from ((name, *place) for place in places(inner))


def with_nul(body: dict[str, Any], place: tuple[str | int, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    inner: Any = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] += NUL
    return changed


@pytest.mark.parametrize("route", BODIES)
async def test_no_text_with_a_nul_breaks_a_route(operator: httpx2.AsyncClient, route: str) -> None:
    method, path = route.split(" ", 1)
    path = PARAM.sub(lambda found: {"account": "acme"}[found[1]], path)
    for place in places(BODIES[route]):
        answer = await operator.request(method, path, json=with_nul(BODIES[route], place))
        told = f"{place}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500, told
    named = await operator.request(method, path, json={**BODIES[route], f"x{NUL}": 1})
    clear(named, "a name")


def test_a_header_with_a_nul_is_no_request(api: RunningApi) -> None:
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), 10) as client:
        client.sendall(b"GET /v1/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer pk_\0\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 400 ")
