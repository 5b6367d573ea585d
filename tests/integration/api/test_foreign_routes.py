"""Routes that clients of vLLM's server call, paths with a slash at the end, and pages offline."""

import re
from collections.abc import AsyncIterator
from importlib.metadata import version

import httpx2
import pytest

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    MODEL,
    Keys,
    RunningApi,
    connect,
    make_keys,
    one_api,
)
from tests.support.keys import sqlite_in
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    directory = tmp_path_factory.mktemp("foreign")
    return settings_for(redis_server, api={"port": 0}, database=sqlite_in(directory))


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture
async def http(api: RunningApi, keys: Keys, store: JobStore) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(api, keys.acme) as opened:
        yield opened


async def test_the_routes_of_vllms_server_answer_without_a_key(http: httpx2.AsyncClient) -> None:
    del http.headers["Authorization"]
    for method in ("GET", "POST"):
        assert (await http.request(method, "/ping")).status_code == 200
    assert (await http.get("/version")).json() == {"version": version("penstock")}
    assert (await http.get("/load")).json() == {"server_load": 0}


async def test_a_path_may_end_with_a_slash(http: httpx2.AsyncClient, store: JobStore) -> None:
    assert (await http.get("/v1/models/")).json() == (await http.get("/v1/models")).json()
    assert (await http.get("/health/")).status_code == 200
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    answer = await http.post(
        "/v1/chat/completions/", json=body, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert (await http.get("/")).status_code == 404


async def test_a_key_may_be_sent_as_x_api_key(http: httpx2.AsyncClient, keys: Keys) -> None:
    del http.headers["Authorization"]
    assert (await http.get("/v1/me", headers={"X-API-Key": keys.acme})).status_code == 200
    assert (await http.get("/v1/me", headers={"X-API-Key": "pk_wrong"})).status_code == 401
    assert (await http.get("/v1/me")).status_code == 401


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"model": "gone"}, 404, "not_found_error"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"mcp_servers": [{"url": "x"}]}, 400, "invalid_request_error"),
    ],
)
async def test_an_error_of_messages_has_anthropics_form(
    http: httpx2.AsyncClient, change: dict[str, object], status: int, kind: str
) -> None:
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    answer = await http.post("/v1/messages", json=body | change)
    shown = answer.json()
    assert (answer.status_code, shown["type"], shown["error"]["type"]) == (status, "error", kind)
    assert shown["request_id"] == answer.headers["x-request-id"]
    assert shown["error"]["message"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_of_the_api_needs_no_other_host(http: httpx2.AsyncClient, path: str) -> None:
    page = (await http.get(path)).text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    assert "/openapi.json" in page
    for url in loaded:
        asset = await http.get(url)
        assert asset.status_code == 200
        assert len(asset.content) > 1000
    assert (await http.get("/docs/assets/..%2Fcore.py")).status_code == 404
