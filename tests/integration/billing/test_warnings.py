"""A warning reaches its receiver signed and once; one that is not taken is tried again."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from billing.budgets import Budget, set_budget
from billing.database import Database
from billing.months import month_of
from billing.spending import Sum
from billing.tables.base import now, table_of
from billing.tables.budgets import BudgetWarning
from billing.warnings import deliver_warnings, warn
from jobs.holds import ACCOUNT, Bucket
from tests.support.waiting import eventually

SECRET = "whsec_" + base64.b64encode(b"a secret of a test, 24 b").decode()
MONTH = month_of(now())
WARNINGS = table_of(BudgetWarning)


@dataclass
class Receiver:
    """A server that keeps what it is sent; the last of its statuses it gives for ever."""

    statuses: list[int]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    drips: bool = False
    silent: bool = False
    handling: list[asyncio.Task[Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handling.append(task)
        with suppress(ConnectionError):
            await self.answer(reader, writer)
            writer.close()
            await writer.wait_closed()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            await reader.read()  # until the client has given up
            return
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, _, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.got.append((headers, body))
        writer.write(b"HTTP/1.1 %d x\r\nconnection: close\r\n\r\n" % status)
        await writer.drain()
        while self.drips:  # a body without end, which nobody waits for
            writer.write(b"drip")
            await writer.drain()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(statuses))
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver
    await asyncio.gather(*receiver.handling)


@asynccontextmanager
async def delivering(database: Database) -> AsyncIterator[None]:
    task = asyncio.create_task(deliver_warnings(database))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def warned(database: Database, receiver: Receiver) -> None:
    """Set a budget of 10 and spend 6 of it."""
    budget = await set_budget(
        database, Budget("acme", Decimal(10), webhook=receiver.url, webhook_secret=SECRET)
    )
    await warn(database, [budget], [Sum(Bucket("acme", MONTH, "USD"), ACCOUNT, Decimal(6))])


async def warnings(database: Database) -> Sequence[Any]:
    async with database.read() as connection:
        return (await connection.execute(select(WARNINGS))).all()


async def test_a_warning_is_signed_and_says_what_was_spent(database: Database) -> None:
    async with receiving(204) as receiver, delivering(database):
        await warned(database, receiver)

        async def delivered() -> bool:
            return all(row.delivered_at is not None for row in await warnings(database))

        await eventually(delivered)
    ((headers, body),) = receiver.got
    assert Webhook(SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"10", b"20"), headers)
    told = orjson.loads(body)
    assert told["type"] == "budget.threshold"
    assert told["data"] == {
        "account": "acme",
        "key_id": None,
        "month": MONTH,
        "percent": 50,
        "spent": "6",
        "budget": "10",
        "currency": "USD",
        "hard": True,
    }


async def test_a_receiver_that_fails_is_tried_again_with_the_same_id(database: Database) -> None:
    async with receiving(500, 200) as receiver, delivering(database):
        await warned(database, receiver)

        async def failed() -> bool:
            (row,) = await warnings(database)
            return bool(row.attempts == 1 and row.failure == "500" and row.due_at > now())

        await eventually(failed)
        async with database.write() as connection:
            past = now() - timedelta(seconds=1)
            await connection.execute(update(WARNINGS).values(due_at=past))

        async def delivered() -> bool:
            (row,) = await warnings(database)
            return row.delivered_at is not None and row.failure == ""

        await eventually(delivered)
    first, second = (headers["webhook-id"] for headers, _ in receiver.got)
    assert first == second


async def test_a_receiver_that_is_gone_is_left_alone(database: Database) -> None:
    async with receiving(410) as receiver, delivering(database):
        await warned(database, receiver)

        async def given_up() -> bool:
            (row,) = await warnings(database)
            return row.due_at is None and row.failure == "410"

        await eventually(given_up)
    assert len(receiver.got) == 1


async def test_a_receiver_that_does_not_answer_holds_up_nothing(database: Database) -> None:
    async with receiving(200) as dead:
        pass
    async with receiving(200) as receiver, delivering(database):
        await warned(database, dead)

        async def failed() -> bool:
            (row,) = await warnings(database)
            return bool(row.failure == "ConnectError")

        await eventually(failed)
        other = await set_budget(
            database, Budget("other", Decimal(1), webhook=receiver.url, webhook_secret=SECRET)
        )
        await warn(database, [other], [Sum(Bucket("other", MONTH, "USD"), ACCOUNT, Decimal(2))])

        async def delivered() -> bool:
            return len(receiver.got) == 3

        await eventually(delivered)


async def test_a_receiver_whose_body_never_ends_has_taken_the_warning(database: Database) -> None:
    async with receiving(200) as receiver, delivering(database):
        receiver.drips = True
        await warned(database, receiver)

        async def delivered() -> bool:
            (row,) = await warnings(database)
            return row.delivered_at is not None

        await eventually(delivered, 5.0)
        receiver.drips = False


async def test_a_receiver_that_never_answers_is_given_up_in_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.warnings.ANSWER_SECONDS", 0.2)

    async with receiving(200) as receiver, delivering(database):
        receiver.silent = True
        await warned(database, receiver)

        async def failed() -> bool:
            (row,) = await warnings(database)
            return row.attempts == 1 and "Timeout" in row.failure

        await eventually(failed)
