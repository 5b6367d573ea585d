"""An event is written once, in its cause's transaction, and only if an endpoint wants it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from kombu import Connection
from kombu.transport.virtual import Message
from sqlalchemy import insert, select

from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.webhooks import WebhookDeliveryRow, WebhookEndpointRow, WebhookEventRow
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Ending
from tests.integration.billing.test_consumer import copy_outbox, replay
from tests.support.jobs import submission, write
from tests.support.ledger import a_price, consuming, end_jobs, until_consumed
from webhooks.events import add_event
from webhooks.tickets import TASK_NAME, DeliveryTicket, message, push_tickets

URL = "https://hooks.example.com:8443/in"


async def listen(
    database: Database, account: str = "acme", name: str = "whe_1", **fields: Any
) -> None:
    """Add an endpoint."""
    row = {"id": name, "account_id": account, "url": URL, "secret": "whsec_c2VjcmV0"} | fields
    async with database.write() as connection:
        await connection.execute(insert(WebhookEndpointRow), [row])


async def rows(database: Database, table: Any) -> Sequence[Any]:
    async with database.read() as connection:
        return (await connection.execute(select(table_of(table)))).all()


async def told(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """Return type and data of every event."""
    payloads = [orjson.loads(row.payload) for row in await rows(database, WebhookEventRow)]
    return sorted(((one["type"], one["data"]) for one in payloads), key=lambda pair: pair[0])


async def test_each_end_of_a_job_is_an_event_of_its_own_type(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await listen(database)
    ends = {
        status: (await end_jobs(store, 1, status))[0]
        for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
    }
    async with consuming(store, database):
        await until_consumed(store)
    found = await told(database)
    assert [(kind, data["id"]) for kind, data in found] == sorted(
        (f"job.{status}", job_id) for status, job_id in ends.items()
    )
    (completed,) = [data for kind, data in found if kind == "job.completed"]
    assert completed["status"] == "completed"
    assert completed["usage"] == {"input_tokens": 3, "cached_input_tokens": 0, "output_tokens": 1}
    assert completed["cost"] == {"total": "0.0000009", "currency": "USD"}
    assert completed["urls"]["result"] == f"/v1/jobs/{ends[Status.COMPLETED]}/result"
    assert "hello" not in str(found)
    deliveries = await rows(database, WebhookDeliveryRow)
    assert {row.target for row in deliveries} == {"whe_1"}
    assert {row.host for row in deliveries} == {"hooks.example.com:8443"}
    assert all(row.state == "pending" and row.due_at <= now() for row in deliveries)


async def test_nothing_is_written_where_nobody_listens(store: JobStore, database: Database) -> None:
    await listen(database, "other")
    await listen(database, name="whe_2", events=["job.failed"])
    await listen(database, name="whe_3", disabled_at=now())
    await end_jobs(store, 3)
    async with consuming(store, database):
        await until_consumed(store)
    assert not await rows(database, WebhookEventRow)
    assert not await rows(database, WebhookDeliveryRow)
    assert await store.redis.llen(store.keys.webhooks) == 0


@pytest.mark.parametrize(("events", "heard"), [((), True), (("job.failed",), False)])
async def test_a_job_tells_its_own_url_of_the_ends_it_asks_for(
    store: JobStore, database: Database, events: tuple[str, ...], heard: bool
) -> None:
    job = submission()
    spec = replace(job.spec, webhook=URL, webhook_events=events, metadata={"order": "17"})
    await store.submit(job._replace(spec=spec))
    (claimed,) = await store.claim(job.queue, "w1", 1)
    await write(store, claimed, claimed.seq, [7], ending=Ending(Status.COMPLETED))
    async with consuming(store, database):
        await until_consumed(store)
    deliveries = [(row.target, row.url) for row in await rows(database, WebhookDeliveryRow)]
    assert deliveries == ([("", URL)] if heard else [])
    if heard:
        ((_, data),) = await told(database)
        assert data["metadata"] == {"order": "17"}
        assert data["url"] == "/v1/completions"


async def test_of_a_quiet_job_nobody_hears(store: JobStore, database: Database) -> None:
    await listen(database)
    job = submission()
    await store.submit(job._replace(spec=replace(job.spec, quiet=True)))
    (claimed,) = await store.claim(job.queue, "w1", 1)
    await write(store, claimed, claimed.seq, [7], ending=Ending(Status.COMPLETED))
    loud = await end_jobs(store, 1)
    async with consuming(store, database):
        await until_consumed(store)
    assert [data["id"] for _, data in await told(database)] == loud


async def test_usage_that_comes_twice_is_told_once(store: JobStore, database: Database) -> None:
    await listen(database)
    await end_jobs(store, 5)
    copies = await copy_outbox(store)
    async with consuming(store, database):
        await until_consumed(store)
        await replay(store, [*copies, *copies])
        await until_consumed(store)
    assert len(await rows(database, WebhookEventRow)) == 5
    assert len(await rows(database, WebhookDeliveryRow)) == 5


async def test_what_is_given_up_with_its_transaction_was_never_told(database: Database) -> None:
    await listen(database)

    async def fail() -> None:
        async with database.write() as connection:
            await add_event(connection, "acme", "batch.completed", {"id": "batch_1"})
            raise RuntimeError("after the event")

    with pytest.raises(RuntimeError, match="after the event"):
        await fail()
    assert not await rows(database, WebhookEventRow)


async def test_an_event_with_an_id_is_added_once(database: Database) -> None:
    await listen(database)
    for _ in range(2):
        async with database.write() as connection:
            await add_event(connection, "acme", "batch.failed", {}, event_id="evt_1")
    async with database.write() as connection:
        (ticket,) = await add_event(connection, "acme", "batch.failed", {})
    assert len(await rows(database, WebhookEventRow)) == 2
    assert ticket.id in {row.id for row in await rows(database, WebhookDeliveryRow)}


async def test_tickets_are_celery_messages_and_the_queue_is_bounded(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = DeliveryTicket("whd_1", "acme", "hooks.example.com")
    monkeypatch.setattr("webhooks.tickets.MAX_QUEUED_TICKETS", 3)
    assert await push_tickets(store.redis, store.keys, [ticket] * 2) == 2
    assert await push_tickets(store.redis, store.keys, [ticket] * 2) == 1
    redis: Any = store.redis
    raw = await redis.rpop(store.keys.webhooks)
    with Connection("memory://") as connection:
        read = Message(orjson.loads(raw), channel=connection.channel(), accept={"application/json"})
        args, kwargs, _ = read.payload
    assert read.headers["task"] == TASK_NAME
    assert (DeliveryTicket(*args), kwargs) == (ticket, {})
    assert message(ticket, "q") != message(ticket, "q")  # each has an id of its own
