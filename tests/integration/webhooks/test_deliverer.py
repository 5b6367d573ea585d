"""A delivery is retried until it is accepted or given up, under one id, with a log."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from standardwebhooks.webhooks import WebhookVerificationError

from billing.budgets.budget_changes import remove_budget
from billing.budgets.budgets import Budget
from billing.budgets.spending import SpentSum
from billing.budgets.warnings import record_warnings
from billing.months import month_of
from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.webhooks import WebhookDeliveryRow, WebhookEndpointRow, WebhookEventRow
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.store.budget_reservations import ACCOUNT, BudgetMonth
from tests.support.budgets import give_budget
from tests.support.receiver import receiving
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.webhooks import (
    attempts,
    deliver,
    deliveries,
    endpoint,
    listen,
    pass_time,
    states,
    tell,
    webhook_settings,
)
from webhooks.account_secrets import read_secret, rotate_secret
from webhooks.attempt_results import AttemptResult, record_results
from webhooks.deliverer import Deliverer
from webhooks.deliveries import claim, find_due, purge
from webhooks.events import NewEvent, Receiver, add_events
from webhooks.sender import SendOutcome
from webhooks.signing import new_secret

MONTH = month_of(now())
SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)


@pytest.fixture
def own() -> dict[str, Any]:
    """Settings a test changes."""
    return {}


@pytest.fixture
def settings(
    redis_server: RedisServer, database_settings: DatabaseSettings, own: dict[str, Any]
) -> Settings:
    return webhook_settings(redis_server, database_settings, **own)


async def test_a_delivery_is_signed_logged_and_done_once(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(204) as receiver:
        secret = await listen(database, receiver)
        (ticket,) = await tell(database)
        await deliver(deliverer, database)
        await deliverer.serve(ticket)
        assert not await find_due(database)
    (got,) = receiver.got
    assert got.verify(secret)["data"] == {"id": "batch_0"}
    with pytest.raises(WebhookVerificationError):
        got.verify(new_secret())
    (row,) = await deliveries(database)
    assert (row.state, row.attempts, row.failure) == ("delivered", 1, "")
    (line,) = await attempts(database)
    assert (line.delivery_id, line.status, line.failure) == (row.id, 204, "")


async def test_a_failure_follows_the_published_schedule_and_then_is_given_up(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(500) as receiver:
        await listen(database, receiver)
        await tell(database)
        for pause in SCHEDULE:
            await deliver(deliverer, database)
            (row,) = await deliveries(database)
            wait = (row.due_at - now()).total_seconds()
            assert pause - 3 <= wait <= pause * 1.1
            assert not await find_due(database)
            await pass_time(database, pause * 1.1)
        await deliver(deliverer, database)
    assert len(set(receiver.ids)) == 1
    assert len(receiver.got) == len(SCHEDULE) + 1
    assert len({got.body for got in receiver.got}) == 1
    (row,) = await deliveries(database)
    assert (row.state, row.attempts, row.failure) == ("failed", 10, "answered 500")
    # All attempts took more than three days, and no other request arrived.
    disabled = await endpoint(database)
    assert disabled.disabled_why == "no delivery succeeded for 3 days"
    assert len(await attempts(database)) == 10


async def test_a_success_forgets_how_long_an_endpoint_failed(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(500, 200, 500) as receiver:
        await listen(database, receiver)
        await tell(database)
        await deliver(deliverer, database)
        assert (await endpoint(database)).failing_since is not None
        await pass_time(database, 7 * 86_400)
        await deliver(deliverer, database)
        assert (await endpoint(database)).failing_since is None
        await tell(database)
        await deliver(deliverer, database)
    row = await endpoint(database)
    assert row.disabled_at is None
    assert await states(database) == ["delivered", "pending"]


async def test_410_disables_the_endpoint_and_gives_up_what_was_on_its_way(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(500, 410) as receiver, receiving(200) as other:
        await listen(database, receiver)
        await tell(database, 2)
        await deliver(deliverer, database)
        await listen(database, other, "whe_2")
        await pass_time(database, 10)
        await tell(database)
        await deliver(deliverer, database)
        seen = len(receiver.got)
        await tell(database)
        await deliver(deliverer, database)
        assert len(receiver.got) == seen
        assert len(other.got) == 2
    async with database.read() as connection:
        table = table_of(WebhookEndpointRow)
        found = {row.id: row for row in await connection.execute(select(table))}
    assert found["whe_1"].disabled_why == "the endpoint answered 410 Gone"
    assert found["whe_2"].disabled_at is None
    assert {row.state for row in await deliveries(database) if row.target == "whe_1"} == {"failed"}


@pytest.mark.parametrize(("asked", "least", "most"), [("60", 60, 61), ("999999", 86_400, 86_401)])
async def test_a_receiver_may_ask_for_more_time_up_to_a_day(
    database: Database, deliverer: Deliverer, asked: str, least: int, most: int
) -> None:
    async with receiving(503) as receiver:
        receiver.headers["retry-after"] = asked
        await listen(database, receiver)
        await tell(database)
        await deliver(deliverer, database)
    (row,) = await deliveries(database)
    assert least - 3 <= (row.due_at - now()).total_seconds() <= most


async def test_both_secrets_sign_while_an_endpoint_changes_its_own(
    database: Database, deliverer: Deliverer
) -> None:
    old, until = new_secret(), now() + timedelta(hours=1)
    async with receiving(200) as receiver:
        new = await listen(database, receiver, previous_secret=old, previous_until=until)
        await tell(database)
        await deliver(deliverer, database)
        async with database.write() as connection:
            await connection.execute(update(WebhookEndpointRow).values(previous_until=now()))
        await tell(database)
        await deliver(deliverer, database)
    during, after = receiver.got
    assert during.verify(old) == during.verify(new)
    assert after.verify(new)
    with pytest.raises(WebhookVerificationError):
        after.verify(old)


async def test_a_jobs_own_url_is_signed_with_the_accounts_secret(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        for number in range(2):
            event = NewEvent(
                *("acme", "job.completed", {"id": "job_1"}, f"evt_{number}", now()),
                own=Receiver("", receiver.url),
            )
            async with database.write() as connection:
                await add_events(connection, [event], [])
            await deliver(deliverer, database)
            if not number:
                first = await read_secret(database, "acme")
                second = await rotate_secret(database, "acme", "test", timedelta(hours=1))
    before, during = receiver.got
    assert before.verify(first.secret)
    assert during.verify(first.secret)
    assert during.verify(second.secret)
    assert first.secret != second.secret
    assert await read_secret(database, "acme") == second


async def test_what_somebody_else_has_taken_is_left_alone_until_he_is_gone(
    database: Database, settings: Settings, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        receiver.silent = True
        await listen(database, receiver)
        (ticket,) = await tell(database)
        slow = Deliverer(settings)
        task = asyncio.create_task(slow.serve(ticket))

        async def arrived() -> bool:
            return len(receiver.got) == 1

        await eventually(arrived)
        task.cancel()  # it dies between the request and writing down how it went
        await asyncio.gather(task, return_exceptions=True)
        await slow.close()
        receiver.silent = False
        await deliverer.serve(ticket)
        assert len(receiver.got) == 1
        assert not await find_due(database)
        await pass_time(database, 60)
        await deliver(deliverer, database)
    assert receiver.ids[0] == receiver.ids[1]
    assert await states(database) == ["delivered"]


async def test_a_lost_ticket_is_made_again_and_a_doubled_one_does_nothing(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        await listen(database, receiver)
        (ticket,) = await tell(database)
        assert await find_due(database) == [ticket]
        assert not await find_due(database)  # it has its ticket
        await pass_time(database, 31)
        assert await find_due(database) == [ticket]  # which was lost
        await asyncio.gather(*(deliverer.serve(ticket) for _ in range(5)))
    assert len(receiver.got) == 1


async def test_a_receiver_that_was_removed_or_disabled_meanwhile_hears_nothing(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        await listen(database, receiver)
        await listen(database, receiver, "whe_2")
        await tell(database)
        async with database.write() as connection:
            table = table_of(WebhookEndpointRow)
            await connection.execute(delete(table).where(table.c.id == "whe_1"))
            await connection.execute(update(table).values(disabled_at=now()))
        await deliver(deliverer, database)
    assert not receiver.got
    assert await states(database) == ["failed", "failed"]


async def warned(database: Database, url: str, secret: str | None, account: str = "acme") -> Budget:
    """Set a budget of 10 and spend 6 of it."""
    budget = await give_budget(
        database, Budget(account, Decimal(10), webhook=url, webhook_secret=secret)
    )
    await record_warnings(
        database, [budget], [SpentSum(BudgetMonth(account, MONTH, "USD"), ACCOUNT, Decimal(6))]
    )
    return budget


async def test_a_budgets_warning_is_told_once_to_its_url_and_to_endpoints(
    database: Database, deliverer: Deliverer
) -> None:
    secret = new_secret()
    async with receiving(200) as receiver, receiving(200) as listener:
        other = await listen(database, listener)
        for _ in range(2):
            await warned(database, receiver.url, secret)
            await deliver(deliverer, database)
    (got,), (heard,) = receiver.got, listener.got
    told = got.verify(secret)
    assert told == heard.verify(other)
    assert got.id == heard.id
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


async def test_the_warning_of_a_budget_that_was_removed_is_given_up(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        await warned(database, receiver.url, None)
        await remove_budget(database, "acme")
        await deliver(deliverer, database)
    assert not receiver.got
    assert await states(database) == ["failed"]


async def test_one_accounts_thousand_do_not_keep_another_from_being_found(
    database: Database,
) -> None:
    async with receiving(200) as receiver, receiving(200) as other:
        await listen(database, receiver)
        await listen(database, other, "whe_2", account_id="other")
        await tell(database, 1_000)
        (ticket,) = await tell(database, account="other")
        found = await find_due(database)
        assert ticket in found[:2]
        assert len(found) == 101
        assert len(await find_due(database)) == 100


async def test_one_accounts_many_hosts_do_not_keep_another_from_being_found(
    database: Database,
) -> None:
    async with receiving(200) as receiver:
        await listen(database, receiver)
        await listen(database, receiver, "whe_2", account_id="other")
        await tell(database, 600)
        (ticket,) = await tell(database, account="other")
        rows = table_of(WebhookDeliveryRow)
        async with database.write() as connection:
            # Each goes to a host of its own, as URLs of single jobs may.
            many = update(rows).where(rows.c.account_id == "acme").values(host=rows.c.id)
            await connection.execute(many)
        assert ticket in (await find_due(database))[:2]


@pytest.mark.parametrize(
    "own", [{"concurrency_per_host": 4, "total_seconds": 1.0, "connect_seconds": 1}]
)
async def test_a_host_that_never_answers_has_its_share_of_places_and_no_more(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as dead, receiving(200) as alive:
        dead.silent = True
        await listen(database, dead)
        await listen(database, alive, "whe_2", account_id="other")
        slow = await tell(database, 12)
        tasks = [asyncio.create_task(deliverer.serve(ticket)) for ticket in slow]

        async def full() -> bool:
            return len(dead.got) == 4

        await eventually(full)
        (quick,) = await tell(database, account="other")
        await deliverer.serve(quick)
        assert len(alive.got) == 1
        assert len(dead.got) == 4  # the quick one did not even wait for the first to give up
        await asyncio.gather(*tasks)
    assert len(dead.got) == 12
    assert (await states(database)).count("delivered") == 1


async def test_what_is_past_its_retention_is_deleted_with_its_log(
    database: Database, deliverer: Deliverer
) -> None:
    async with receiving(200) as receiver:
        await listen(database, receiver)
        await tell(database, 3)
        await deliver(deliverer, database)
        await tell(database)
        async with database.write() as connection:
            table = table_of(WebhookEventRow)
            old = select(table.c.id).order_by(table.c.id).limit(3).scalar_subquery()
            long_ago = now() - timedelta(days=31)
            await connection.execute(
                update(table).where(table.c.id.in_(old)).values(created_at=long_ago)
            )
        assert await purge(database, now() - timedelta(days=30), limit=2) == 2
        assert await purge(database, now() - timedelta(days=30), limit=2) == 1
    assert await states(database) == ["pending"]
    assert not await attempts(database)


async def test_what_is_purged_while_it_is_sent_keeps_nothing_else_from_being_written_down(
    database: Database,
) -> None:
    async with receiving(200) as receiver:
        await listen(database, receiver)
        await tell(database, 2)
        ids = [row.id for row in await deliveries(database)]
        taken = [one for one in await claim(database, ids, 30) if one is not None]
        async with database.write() as connection:
            events = table_of(WebhookEventRow)
            await connection.execute(delete(events).where(events.c.id == taken[0].event_id))
        sent = SendOutcome(200, "", 5)
        results = [AttemptResult(one, sent, now(), None) for one in taken]
        assert await record_results(database, results, timedelta(days=3)) == ["", ""]
        assert await record_results(database, results[:1], timedelta(days=3)) == [""]
    assert await states(database) == ["delivered"]
    assert len(await attempts(database)) == 1
