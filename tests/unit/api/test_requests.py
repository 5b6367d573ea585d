"""Headers, cursors, presence: the small parts around a request."""

import asyncio
import time

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from api.http.cursor import check_list_cursor
from api.streaming.disconnect import ClientDisconnect
from core.ids import new_id
from intake.lifetime.job_watchers import JobWatchers
from intake.lifetime.request_lifetime import EndReason, OpenRequests, RequestLifetime
from intake.preferences import Preferences, read_preferences
from wire.errors import InvalidCursor, InvalidHeader


def preferences(*headers: tuple[str, str]) -> Preferences:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return read_preferences(Headers(raw=raw), 60)


@pytest.mark.parametrize(
    ("value", "respond_async", "wait", "applied"),
    [
        ("respond-async", True, None, "respond-async"),
        ("wait=10", False, 10, "wait=10"),
        ('wait="10"', False, 10, "wait=10"),
        ("respond-async, wait=5", True, 5, "respond-async, wait=5"),
        ("wait=3600", False, 60, "wait=60"),
        ("wait=0", False, 0, "wait=0"),
        ("wait=-1", False, None, None),
        ("wait=soon, handling=lenient", False, None, None),
        ("wait=1, wait=2", False, 1, "wait=1"),
    ],
)
def test_preferences_are_honoured_or_ignored(
    value: str, respond_async: bool, wait: int | None, applied: str | None
) -> None:
    found = preferences(("Prefer", value))
    assert (found.respond_async, found.wait_seconds) == (respond_async, wait)
    assert found.applied.get("Preference-Applied") == applied


def test_several_prefer_headers_are_one_list() -> None:
    found = preferences(("Prefer", "respond-async"), ("Prefer", "wait=5"))
    assert (found.respond_async, found.wait_seconds) == (True, 5)


@pytest.mark.parametrize(
    ("value", "key"),
    [("abc", "abc"), ('"abc"', "abc"), ('"a\\"b"', 'a"b'), (" x ", "x"), ('"', '"')],
)
def test_idempotency_keys_come_quoted_or_bare(value: str, key: str) -> None:
    assert preferences(("Idempotency-Key", value)).idempotency_key == key


@pytest.mark.parametrize("value", ["", '""', "x" * 256, "ü"])
def test_unusable_idempotency_keys_are_refused(value: str) -> None:
    with pytest.raises(InvalidHeader):
        preferences(("Idempotency-Key", value))


def test_list_cursors_are_ids_whatever_clock_stamped_them() -> None:
    job_id = new_id("job")
    future = f"job_{int(time.time() * 1000) + 3_600_000:012x}" + "0" * 20
    for right in (job_id, future):
        assert check_list_cursor(right) == right
    for wrong in ("", "job_", job_id[:-1], job_id.upper(), "job_*", f"{job_id}\n"):
        with pytest.raises(InvalidCursor):
            check_list_cursor(wrong)


class Client:
    """A client's end of a connection."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_presence_ends_when_the_client_leaves() -> None:
    client, closing = Client(), OpenRequests()
    presence = RequestLifetime(ClientDisconnect(client.receive), closing)
    async with presence:
        client.left.set()
        await asyncio.sleep(30)
    assert presence.ended is EndReason.CLIENT


async def test_presence_ends_when_time_is_up() -> None:
    presence = RequestLifetime(ClientDisconnect(Client().receive), OpenRequests(), 0.01)
    async with presence:
        await asyncio.sleep(30)
    assert presence.ended is EndReason.TIME


async def test_presence_that_was_not_cut_has_no_end() -> None:
    presence = RequestLifetime(ClientDisconnect(Client().receive), OpenRequests(), 30)
    async with presence:
        pass
    assert presence.ended is None


async def test_errors_inside_pass_through() -> None:
    presence = RequestLifetime(ClientDisconnect(Client().receive), OpenRequests())
    with pytest.raises(TimeoutError):
        async with presence:
            raise TimeoutError
    assert presence.ended is None


async def test_closing_ends_the_impatient_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intake.lifetime.request_lifetime.GRACE_SECONDS", 0.05)
    closing, ended = OpenRequests(), list[str]()

    async def wait(name: str, *, gets_grace: bool) -> None:
        presence = RequestLifetime(
            ClientDisconnect(Client().receive), closing, gets_grace=gets_grace
        )
        async with presence:
            await asyncio.sleep(30)
        assert presence.ended is EndReason.SERVER
        ended.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(wait("gets_grace", gets_grace=True))
        group.create_task(wait("impatient", gets_grace=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing.shut_down()
        group.create_task(wait("late", gets_grace=False))
    assert ended[-1] == "gets_grace"
    assert set(ended) == {"gets_grace", "impatient", "late"}


def test_watchers_are_counted() -> None:
    watchers = JobWatchers()
    with watchers.watching("a"), watchers.watching("a"):
        assert watchers.any("a")
    assert not watchers.any("a")
