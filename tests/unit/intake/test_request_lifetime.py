"""A request ends when its client disconnects, its time is up, or the server shuts down."""

import asyncio

import pytest
from starlette.types import Message

from api.streaming.disconnect import ClientDisconnect
from intake.lifetime.job_watchers import JobWatchers
from intake.lifetime.request_lifetime import EndReason, OpenRequests, RequestLifetime


class Client:
    """A client that stays connected until `left` is set."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_a_lifetime_ends_when_the_client_disconnects() -> None:
    client, requests = Client(), OpenRequests()
    lifetime = RequestLifetime(ClientDisconnect(client.receive), requests)
    async with lifetime:
        client.left.set()
        await asyncio.sleep(30)
    assert lifetime.ended is EndReason.CLIENT


async def test_a_lifetime_ends_when_its_time_is_up() -> None:
    lifetime = RequestLifetime(ClientDisconnect(Client().receive), OpenRequests(), 0.01)
    async with lifetime:
        await asyncio.sleep(30)
    assert lifetime.ended is EndReason.TIME


async def test_a_lifetime_that_was_not_cut_short_has_no_reason() -> None:
    lifetime = RequestLifetime(ClientDisconnect(Client().receive), OpenRequests(), 30)
    async with lifetime:
        pass
    assert lifetime.ended is None


async def test_errors_inside_pass_through() -> None:
    lifetime = RequestLifetime(ClientDisconnect(Client().receive), OpenRequests())
    with pytest.raises(TimeoutError):
        async with lifetime:
            raise TimeoutError
    assert lifetime.ended is None


async def test_shutdown_ends_requests_without_grace_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intake.lifetime.request_lifetime.GRACE_SECONDS", 0.05)
    requests, ended = OpenRequests(), list[str]()

    async def wait(name: str, *, gets_grace: bool) -> None:
        lifetime = RequestLifetime(
            ClientDisconnect(Client().receive), requests, gets_grace=gets_grace
        )
        async with lifetime:
            await asyncio.sleep(30)
        assert lifetime.ended is EndReason.SERVER
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(wait("gets_grace", gets_grace=True))
        group.create_task(wait("no_grace", gets_grace=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        requests.shut_down()
        group.create_task(wait("late", gets_grace=False))
    assert ended[-1] == "gets_grace"
    assert set(ended) == {"gets_grace", "no_grace", "late"}


def test_watchers_are_counted() -> None:
    watchers = JobWatchers()
    with watchers.watching("a"), watchers.watching("a"):
        assert watchers.any("a")
    assert not watchers.any("a")
