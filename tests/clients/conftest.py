"""One pipeline for all clients: real Redis, API, Celery worker and sweeper, simulated engine."""

import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from accounts.caller import Limits, Role
from core.settings.tree import Settings
from tests.support.keys import make_key, prepare_database, sqlite_in
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, simulated_settings

EMBEDDER = "sim-embed"
MESSAGES: Any = [{"role": "user", "content": "Tell me about the river."}]
Client = openai.OpenAI | openai.AsyncOpenAI


class Service:
    """Where the API is, and keys for it."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings
        self.url = f"{url}/v1"
        self.key = make_key(settings)

    def new_key(self, account: str, **fields: Any) -> str:
        """Make a key for one test."""
        return make_key(self.settings, account, **fields)


@pytest.fixture(scope="package")
def service(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("clients")
    settings = simulated_settings(
        redis_server,
        database=sqlite_in(directory),
        retry={"max_attempts": 1},
        limits={"body_bytes": 100_000},
    )
    prepare_database(settings)
    with pipeline(settings, directory) as running:
        running.control()
        running.feeder()
        embedder = running.begin_worker(task="embed", served_name=EMBEDDER)
        running.worker()
        embedder.wait_until_ready()
        api = running.api()
        yield Service(settings, f"http://127.0.0.1:{api.settings.api.port}")


class Caller:
    """Calls the synchronous and the asynchronous client with the same arguments."""

    def __init__(self, kind: type[Client], **options: Any) -> None:
        self._kind = kind
        self._options = {"max_retries": 0, "timeout": 20, **options}

    def with_(self, **options: Any) -> "Caller":
        """Return another caller."""
        return Caller(self._kind, **{**self._options, **options})

    async def __call__(self, path: str, /, **arguments: Any) -> Any:
        """Call a method such as `responses.create`; a stream is returned as the list it yields."""
        client: Any = self._kind(**self._options)
        try:
            method = client
            for name in path.split("."):
                method = getattr(method, name)
            answer = await _done(method(**arguments))
            if isinstance(answer, openai.Stream | openai.AsyncStream):
                return await _listed(answer)
            return answer
        finally:
            await _done(client.close())

    async def pages(self, path: str, /, **arguments: Any) -> list[Any]:
        """Call a method that lists, and return the items of all pages."""
        client: Any = self._kind(**self._options)
        try:
            method = client
            for name in path.split("."):
                method = getattr(method, name)
            pages = method(**arguments)
            return await _listed(pages)
        finally:
            await _done(client.close())

    @asynccontextmanager
    async def within(self, path: str, /, **arguments: Any) -> AsyncIterator[Any]:
        """Enter what a method such as `with_streaming_response` returns."""
        client: Any = self._kind(**self._options)
        method = client
        for name in path.split("."):
            method = getattr(method, name)
        manager = method(**arguments)
        try:
            if hasattr(manager, "__aenter__"):
                async with manager as entered:
                    yield entered
            else:
                with manager as entered:
                    yield entered
        finally:
            await _done(client.close())


async def _done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _listed(values: Any) -> list[Any]:
    if hasattr(values, "__aiter__"):
        return [value async for value in values]
    return list(values)


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await _done(value)


async def listed(values: Any) -> list[Any]:
    """Return what either client iterates over."""
    return await _listed(values)


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
def call(request: pytest.FixtureRequest, service: Service) -> Caller:
    return Caller(request.param, base_url=service.url, api_key=service.key)


__all__ = ["EMBEDDER", "MESSAGES", "MODEL", "Caller", "Limits", "Role", "Service", "done", "listed"]
