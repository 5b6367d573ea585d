"""`/metrics` needs the token of the settings, if there is one: at the API and on health ports."""

import asyncio
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from core import metrics
from core.exposition import Exposition
from core.runtime.health_server import HealthServer, always_live
from core.settings.tree import Settings
from tests.conftest import settings_for
from tests.integration.api.conftest import RunningApi, make_keys, one_api
from tests.support.keys import sqlite_in
from tests.support.redis_server import RedisServer

TOKEN = "a token for the scraper"
WRONG = (None, "Bearer", "Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xe9")


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("metrics")
    own = {"api": {"port": 0}, "metrics": {"token": TOKEN}}
    return settings_for(redis_server, database=sqlite_in(folder), **own)


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


def headers(authorization: str | None) -> dict[str, bytes]:
    return {} if authorization is None else {"Authorization": authorization.encode("latin-1")}


async def test_the_metrics_of_the_api_need_the_token(api: RunningApi) -> None:
    async with httpx2.AsyncClient(base_url=api.url) as client:
        for authorization in WRONG:
            answer = await client.get("/metrics", headers=headers(authorization))
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert "penstock_" not in answer.text
        answer = await client.get("/metrics", headers=headers(f"Bearer {TOKEN}"))
        assert answer.status_code == 200
        assert "penstock_build_info" in answer.text
        assert (await client.get("/health")).status_code == 200


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    exposition = Exposition("ledger", metrics.LEDGER)
    token = request.param and SecretStr(request.param)
    server = HealthServer("127.0.0.1", 0, always_live, always_live, exposition, token)
    server.start()
    yield server._server.server_address[1]
    server.close()


def read(port: int, path: str, authorization: str | None) -> tuple[int, str, str | None]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers(authorization))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("WWW-Authenticate")
    finally:
        connection.close()


@pytest.mark.parametrize("port", [TOKEN], indirect=True)
async def test_the_metrics_of_a_health_port_need_the_token(port: int) -> None:
    for authorization in WRONG:
        status, text, challenge = await asyncio.to_thread(read, port, "/metrics", authorization)
        assert (status, challenge) == (401, 'Bearer realm="metrics"')
        assert "penstock_" not in text
    status, text, _ = await asyncio.to_thread(read, port, "/metrics", f"Bearer {TOKEN}")
    assert status == 200
    assert "penstock_build_info" in text
    assert (await asyncio.to_thread(read, port, "/ready", None))[0] == 200


@pytest.mark.parametrize("port", [None], indirect=True)
async def test_without_a_token_in_the_settings_no_client_needs_one(port: int) -> None:
    assert (await asyncio.to_thread(read, port, "/metrics", None))[0] == 200
