"""Reconciliation finds every kind of drift, names the job, and reports no false ones."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, text

from billing.ledger.consumer import GROUP
from billing.ledger.ledger import Ledger
from billing.months import month_of, next_month
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.repair import LedgerRepair
from billing.reconcile.run import reconcile
from billing.reconcile.triggers import trigger_definitions
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.invoices import ClosedMonthRow
from core.settings.billing import BillingSettings
from jobs.archive.archived_job import read_finished
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Ending
from jobs.store.usage_outbox import Outbox, UsageEntry
from migrations.triggers_in_force import triggers_in_force
from tests.support import reconciliation
from tests.support.drift import plant
from tests.support.jobs import submission, write
from tests.support.ledger import (
    a_price,
    consuming,
    end_jobs,
    set_aside,
    until_consumed,
    usage_of,
)

FREE = Decimal(0)


def this_month() -> str:
    return month_of(datetime.now(UTC))


async def look(store: JobStore, database: Database, listed: int = 20) -> Findings:
    return await reconciliation.look(store, database, this_month(), listed)


async def booked(store: JobStore, database: Database, count: int = 3, **fields: Any) -> list[str]:
    """End jobs and bring their usage into the ledger."""
    ids = await end_jobs(store, count, **fields)
    async with consuming(store, database):
        await until_consumed(store)
    return ids


def about(findings: Findings, *kinds: FindingKind) -> list[tuple[str, str, str, str]]:
    """Return subject, what, expected and found of each difference; fail on other kinds."""
    listed = reconciliation.only(findings, *kinds)
    return [(one.subject, one.what, one.expected, one.found) for one in listed]


async def test_a_month_without_drift_is_clean_and_says_what_was_compared(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await booked(store, database, 4, tier=ServiceTier.PRIORITY)
    for status in (Status.CANCELLED, Status.EXPIRED, Status.FAILED):
        await booked(store, database, 2, status=status)
    await store.submit(submission())

    findings = await look(store, database)

    assert findings.clean, findings.listed
    assert findings.compared["live jobs"] == 10
    assert findings.compared["logs"] == 10
    assert findings.compared["archived jobs"] == 10
    assert findings.compared["ledger rows"] == 10
    assert findings.compared["outbox entries waiting for the ledger"] == 0


async def test_an_empty_month_is_clean(store: JobStore, database: Database) -> None:
    assert (await look(store, database)).clean


async def test_what_waits_in_the_outbox_is_counted_and_no_difference(
    store: JobStore, database: Database
) -> None:
    await end_jobs(store, 5)

    findings = await look(store, database)

    assert findings.clean, findings.listed
    assert findings.compared["outbox entries waiting for the ledger"] == 5


async def test_a_waiting_entry_that_does_not_say_what_its_job_delivered_is_found(
    store: JobStore, database: Database
) -> None:
    redis: Any = store.redis
    (job_id,) = await end_jobs(store, 1)
    ((entry_id, fields),) = await redis.xrange(store.keys.outbox)
    await redis.xdel(store.keys.outbox, entry_id)
    await redis.xadd(store.keys.outbox, {**fields, b"output": b"5"})

    found = about(await look(store, database), FindingKind.USAGE)

    assert found == [(job_id, "output_tokens", "1", "5")]


async def test_jobs_that_end_meanwhile_give_no_false_alarm(
    store: JobStore, database: Database
) -> None:
    await a_price(database)

    async def work() -> None:
        for _ in range(40):
            await end_jobs(store, 10)

    async with consuming(store, database, batch_events=7):
        working = asyncio.create_task(work())
        looks = 0
        while not working.done():
            findings = await look(store, database)
            assert findings.clean, findings.listed
            looks += 1
        await working
    assert looks > 1


@pytest.mark.parametrize("steps", ["read", "read, committed"])
async def test_a_consumer_that_died_between_two_steps_leaves_no_difference(
    store: JobStore, database: Database, steps: str
) -> None:
    await a_price(database)
    await end_jobs(store, 12)
    dead = Outbox(store.redis, store.keys, GROUP, "dead")
    await dead.open()
    entries = [entry for entry in await dead.read(9) if isinstance(entry, UsageEntry)]
    if "committed" in steps:
        jobs = await read_finished(store, entries)
        await Ledger(database).record(entries, jobs)
    assert (await look(store, database)).clean

    async with consuming(store, database, claim_seconds=0.1):
        await until_consumed(store)

    findings = await look(store, database)
    assert findings.clean, findings.listed
    assert findings.compared["ledger rows"] == 12


async def test_a_job_whose_usage_never_reached_the_ledger_is_found(
    store: JobStore, database: Database
) -> None:
    redis: Any = store.redis
    await a_price(database)
    await booked(store, database)
    (lost,) = await end_jobs(store, 1)
    await redis.delete(store.keys.outbox)

    findings = await look(store, database)

    ((subject, what, _, found),) = about(findings, FindingKind.NOT_RECORDED)
    assert (subject, what, found) == (lost, "ledger row", "nothing")


async def test_a_job_that_redis_still_holds_whole_is_recorded_by_repair(
    store: JobStore, database: Database
) -> None:
    redis: Any = store.redis
    await a_price(database)
    await booked(store, database)
    lost, broken = await end_jobs(store, 2, key_id="key_1")
    await redis.delete(store.keys.outbox)
    await redis.xdel(store.keys.log(broken), "1-0")
    repair = LedgerRepair(store, database, BillingSettings())

    findings = Findings(20)
    await reconcile(store, database, this_month(), findings, repair)

    assert findings.compared["lost jobs recorded"] == 1
    assert {one.subject for one in findings.listed} == {broken}, "its log is not whole"
    row = (await usage_of(database))[lost]
    assert (row.key_id, row.output_tokens, row.status) == ("key_1", 1, "completed")
    assert row.price_version_id is not None
    assert await redis.xlen(store.keys.outbox) == 0
    assert await redis.pttl(store.keys.job(lost)) > 0, "its retention has begun"
    again = Findings(20)
    await reconcile(store, database, this_month(), again, repair)
    assert "lost jobs recorded" not in again.compared


async def test_a_deleted_ledger_row_is_found_by_the_live_and_the_archived_job(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    lost, *_ = await booked(store, database)
    assert await plant(database, "DELETE FROM usage_events WHERE job_id = :id", id=lost) == 1

    findings = await look(store, database)

    assert {subject for subject, *_ in about(findings, FindingKind.NOT_RECORDED)} == {lost}
    assert findings.counts[FindingKind.NOT_RECORDED] == 2


async def test_changed_tokens_are_found(store: JobStore, database: Database) -> None:
    await a_price(database)
    job_id, *_ = await booked(store, database)
    change = "UPDATE usage_events SET output_tokens = 9, charged_output_tokens = 9"
    await plant(database, f"{change} WHERE job_id = :id", id=job_id)

    findings = await look(store, database)

    found = about(findings, FindingKind.USAGE, FindingKind.LOG, FindingKind.PRICE)
    assert (job_id, "output_tokens", "1", "9") in found
    assert (job_id, "output_amount", "0.0000027", "0.0000003") in found
    assert {subject for subject, *_ in found} == {job_id}


async def test_other_weights_than_the_job_ran_on_are_found(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    changed, unknown, _ = await booked(store, database, weights="0123456789abcdef")
    for job_id, weights in ((changed, "fedcba9876543210"), (unknown, None)):
        change = "UPDATE usage_events SET weights = :weights WHERE job_id = :id"
        await plant(database, change, id=job_id, weights=weights)

    found = about(await look(store, database), FindingKind.USAGE)

    # Once in Redis and once in the archive. An event of an older version has none and is no drift.
    assert found == [(changed, "weights", "0123456789abcdef", "fedcba9876543210")] * 2


async def test_repair_records_the_weights_too(store: JobStore, database: Database) -> None:
    redis: Any = store.redis
    (lost,) = await end_jobs(store, 1, weights="0123456789abcdef")
    await redis.delete(store.keys.outbox)
    repair = LedgerRepair(store, database, BillingSettings())
    await reconcile(store, database, this_month(), Findings(20), repair)
    assert (await usage_of(database))[lost].weights == "0123456789abcdef"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("output_amount = output_amount * 2", "output_amount"),
        ("input_amount = NULL", "input_amount"),
        ("multiplier = multiplier * 2", "multiplier"),
        ("currency = 'EUR'", "currency"),
        ("price_version_id = 'price_none'", "price_version_id"),
    ],
)
async def test_a_changed_amount_or_price_is_found(
    store: JobStore, database: Database, change: str, what: str
) -> None:
    await a_price(database)
    job_id, *_ = await booked(store, database)
    await plant(database, f"UPDATE usage_events SET {change} WHERE job_id = :id", id=job_id)

    ((subject, found, _, _),) = about(await look(store, database), FindingKind.PRICE)

    assert (subject, found) == (job_id, what)


async def test_a_price_that_was_not_valid_when_the_job_finished_is_found(
    store: JobStore, database: Database
) -> None:
    price = await a_price(database)
    job_id, *_ = await booked(store, database)
    later = await a_price(database, valid_from=datetime.now(UTC) + timedelta(days=1))
    change = "UPDATE usage_events SET price_version_id = :later WHERE job_id = :id"
    await plant(database, change, later=later.id, id=job_id)

    findings = about(await look(store, database), FindingKind.PRICE)

    assert findings == [(job_id, "price_version_id", price.id, later.id)]


async def test_a_budget_counter_that_is_not_the_sum_of_the_ledger_is_found(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await booked(store, database)
    await plant(database, "UPDATE spending SET amount = amount * 2")

    found = about(await look(store, database), FindingKind.SPENDING)

    assert found == [("acme USD", "spent by no key", "0.0000027", "0.0000054")]


async def test_a_charge_against_the_rules_is_found(store: JobStore, database: Database) -> None:
    await a_price(database, input=FREE, cached_input=FREE, output=FREE)
    job_id, *_ = await booked(store, database, status=Status.FAILED)
    change = "UPDATE usage_events SET charged_output_tokens = 1 WHERE job_id = :id"
    await plant(database, change, id=job_id)

    findings = about(await look(store, database), FindingKind.CHARGE)

    assert findings == [(job_id, "charged_output_tokens", "0", "1")]


async def test_usage_in_the_wrong_month_is_found(store: JobStore, database: Database) -> None:
    await a_price(database)
    early, mislabelled, right = await booked(store, database)
    following = next_month(this_month())
    move = "UPDATE usage_events SET month = :month, late = true WHERE job_id = :id"
    await plant(database, move, month=following, id=early)
    await plant(database, "UPDATE usage_events SET late = true WHERE job_id = :id", id=mislabelled)
    findings = await reconciliation.look(store, database, following)
    assert about(findings, FindingKind.MONTH) == [(early, "month", this_month(), following)]

    found = about(await look(store, database), FindingKind.MONTH)

    assert found == [(mislabelled, "late", "false", "true")]
    assert right not in str(found)


async def test_late_usage_of_a_closed_month_is_no_difference(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    async with database.write() as connection:
        await connection.execute(insert(ClosedMonthRow), [{"month": this_month()}])
        await audit(connection, "test", "month_closed", this_month())
    await booked(store, database)
    for month in (this_month(), next_month(this_month())):
        findings = await reconciliation.look(store, database, month)
        assert findings.clean, findings.listed
    assert findings.compared["ledger rows"] == 3


async def test_usage_without_a_price_is_said_until_it_is_rated(
    store: JobStore, database: Database
) -> None:
    began = datetime.now(UTC)
    (job_id,) = await booked(store, database, 1)

    found = about(await look(store, database), FindingKind.UNPRICED)
    assert found == [(job_id, "price_version_id", "a price", "nothing")]

    await a_price(database, valid_from=began.replace(microsecond=0))
    await Ledger(database).rate_unpriced()
    assert (await look(store, database)).clean


async def test_a_log_shorter_than_its_usage_is_found(store: JobStore, database: Database) -> None:
    redis: Any = store.redis
    await a_price(database)
    job_id, *_ = await booked(store, database)
    await redis.xdel(store.keys.log(job_id), "2-0")

    found = about(await look(store, database), FindingKind.LOG)

    assert (job_id, "events", "3 in a row", "2") in found
    assert (job_id, "output_tokens", "1", "0") in found


async def test_a_log_that_is_gone_while_its_job_stays_is_found(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    job_id, *_ = await booked(store, database)
    await store.redis.delete(store.keys.log(job_id))

    found = about(await look(store, database), FindingKind.LOG)

    assert (job_id, "output_tokens", "1", "0") in found


async def test_an_erased_job_is_no_difference(store: JobStore, database: Database) -> None:
    await a_price(database)
    job_id, *_ = await booked(store, database)
    await store.delete(job_id, "acme")
    assert (await look(store, database)).clean


async def test_a_long_log_is_read_to_its_end(store: JobStore, database: Database) -> None:
    await a_price(database)
    job = submission()
    await store.submit(job)
    (claimed,) = await store.claim(job.queue, "w1", 1)
    for number in range(1_100):
        last = Ending(Status.COMPLETED) if number == 1_099 else None
        after = claimed.seq + number
        await write(store, claimed, after, [7], output_tokens=number + 1, ending=last)
    async with consuming(store, database):
        await until_consumed(store)

    findings = await look(store, database)

    assert findings.clean, findings.listed
    assert (await usage_of(database))[job.id].output_tokens == 1_100


async def test_a_changed_archive_is_found(store: JobStore, database: Database) -> None:
    await a_price(database)
    job_id, *_ = await booked(store, database)
    change = "UPDATE archived_jobs SET result = :result WHERE job_id = :id"
    await plant(database, change, id=job_id, result='{"choices":[],"usage":null}')

    found = about(await look(store, database), FindingKind.LOG)

    assert found == [(job_id, "archived output_tokens", "1", "0")]


async def test_a_ledger_row_of_a_job_that_still_runs_is_found(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    job_id, *_ = await booked(store, database)
    running = submission()
    await store.submit(running)
    change = "UPDATE usage_events SET job_id = :running WHERE job_id = :id"
    await plant(database, change, running=running.id, id=job_id)

    found = about(await look(store, database), FindingKind.NOT_ENDED, FindingKind.NOT_RECORDED)

    assert (running.id, "status", "completed", "queued") in found


async def test_an_entry_set_aside_is_a_difference_until_it_is_resolved(
    store: JobStore, database: Database
) -> None:
    redis: Any = store.redis
    await redis.xadd(store.keys.outbox, {"job": "job_x"})
    async with consuming(store, database):
        await until_consumed(store)
    (entry,) = await set_aside(database)

    ((subject, *_),) = about(await look(store, database), FindingKind.SET_ASIDE)
    assert subject == entry.entry_id

    async with database.write() as connection:
        await connection.execute(text("UPDATE set_aside_entries SET resolved_at = set_aside_at"))
    assert (await look(store, database)).clean


async def test_each_missing_trigger_is_found(store: JobStore, database: Database) -> None:
    there = await trigger_definitions(database)
    guarded = {
        trigger.name: trigger.table for trigger in triggers_in_force() if trigger.name in there
    }
    assert set(guarded) == {name for name in there if name.startswith("keep_")}
    assert (await look(store, database)).clean

    async with database.write() as connection:
        for name, table in guarded.items():
            on = "" if database.is_sqlite else f" ON {table}"
            await connection.execute(text(f"DROP TRIGGER {name}{on}"))

    found = about(await look(store, database, listed=len(guarded)), FindingKind.GUARD)

    missing = {(table, "trigger", name, "nothing") for name, table in guarded.items()}
    assert set(found) == missing


async def test_each_trigger_that_was_emptied_under_its_name_is_found(
    store: JobStore, database: Database
) -> None:
    emptied: set[tuple[str, str]] = set()
    async with database.write() as connection:
        for trigger in triggers_in_force():
            if not database.is_sqlite:
                body = "BEGIN RETURN COALESCE(NEW, OLD); END"
                await connection.exec_driver_sql(
                    f"CREATE OR REPLACE FUNCTION {trigger.function}() RETURNS trigger"
                    f" LANGUAGE plpgsql AS $${body}$$"
                )
            elif trigger.sqlite is not None:
                event = trigger.sqlite.partition(" BEGIN ")[0]
                await connection.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
                await connection.exec_driver_sql(
                    f"CREATE TRIGGER {trigger.name} {event} BEGIN SELECT 1; END"
                )
            else:
                continue
            emptied.add((trigger.table, f"trigger {trigger.name}"))

    found = about(await look(store, database, listed=len(emptied)), FindingKind.GUARD)

    assert {(table, what) for table, what, _, _ in found} == emptied


async def test_the_list_is_bounded_and_the_count_is_not(
    store: JobStore, database: Database
) -> None:
    await booked(store, database, 30)

    findings = await look(store, database, listed=3)

    assert findings.counts == {FindingKind.UNPRICED: 30}
    assert len(findings.listed) == 3
