"""What a client without a key can do to an API process."""

import time
from pathlib import Path

import httpx2
import pytest

from core.settings.tree import Settings
from tests.conftest import settings_for
from tests.integration.api.conftest import RunningApi, make_keys, one_api
from tests.support.keys import sqlite_in
from tests.support.machine import is_over
from tests.support.redis_server import RedisServer

LOGIN = "/v1/auth/login"


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("front-door")
    return settings_for(redis_server, api={"port": 0}, database=sqlite_in(folder))


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


async def test_sixteen_thousand_unknown_fields_do_not_hold_the_process(api: RunningApi) -> None:
    body = {f"unknown{number}": 1 for number in range(16_000)}
    async with httpx2.AsyncClient(base_url=api.url) as client:
        began = time.monotonic()
        answer = await client.post(LOGIN, json=body)
    # It took 14 seconds while every error was compared with every other.
    assert not is_over(began, 1)
    assert answer.status_code == 422
    problem = answer.json()
    assert len(problem["errors"]) == 10
    assert problem["more_errors"] == 16_000 + 2 - 10  # email and password are missing
    assert len(answer.content) < 5_000


async def test_an_address_that_looks_like_another_does_not_sign_in(api: RunningApi) -> None:
    async with httpx2.AsyncClient(base_url=api.url) as client:
        body = {"email": "\u00aadmin@example.com", "password": "a long enough password"}
        answer = await client.post(LOGIN, json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, "email")
