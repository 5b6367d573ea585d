"""The consumer records each job once, for any outbox entry and any other consumer."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert

from billing.ledger.account_metrics import OTHERS
from billing.ledger.consumer import GROUP
from billing.ledger.ledger import Ledger
from billing.months import month_of, next_month
from billing.pricing.rating import charged_tokens, rate
from core import metrics
from core.db.database import Database
from core.db.tables.invoices import ClosedMonthRow
from core.errors import EngineError, JobGone
from jobs.archive.archived_job import ArchivedJob, read_finished
from jobs.fairness import ServiceTier
from jobs.result import fold
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.transitions import Ending
from jobs.store.usage_outbox import Outbox, UsageEntry
from tests.conftest import settings_for
from tests.support.jobs import QUEUE, delta, submission, write
from tests.support.ledger import (
    a_price,
    archived,
    consuming,
    end_jobs,
    set_aside,
    until_consumed,
    usage_of,
)
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


async def copy_outbox(store: JobStore) -> list[dict[bytes, bytes]]:
    redis: Any = store.redis
    return [fields for _, fields in await redis.xrange(store.keys.outbox)]


async def replay(store: JobStore, entries: list[dict[bytes, bytes]]) -> None:
    redis: Any = store.redis
    for fields in entries:
        await redis.xadd(store.keys.outbox, fields)


async def test_long_answers_are_archived_a_few_at_a_time(
    store: JobStore, database: Database
) -> None:
    jobs = [submission() for _ in range(4)]
    for job in jobs:
        await store.submit(job)
    for claimed in await store.claim(QUEUE, "w1", 4):
        ending = Ending(Status.COMPLETED)
        await write(store, claimed, claimed.seq, [7], output_tokens=400_000, ending=ending)
    before = _transactions()
    async with consuming(store, database):
        await until_consumed(store)
    assert _transactions() - before == 2
    assert set(await usage_of(database)) == {job.id for job in jobs}


def _transactions() -> float:
    name = "penstock_ledger_batch_seconds_count"
    return metrics.LEDGER.get_sample_value(name) or 0.0


async def test_each_job_is_recorded_rated_and_archived_once(
    store: JobStore, database: Database
) -> None:
    price = await a_price(database)
    ids = await end_jobs(store, 25, tier=ServiceTier.FLEX)
    failed = await end_jobs(store, 1, Status.FAILED)
    async with consuming(store, database):
        await until_consumed(store)
    events = await usage_of(database)
    assert set(events) == {*ids, *failed}
    expected = rate(charged_tokens(Status.COMPLETED, 3, 0, 1), price, ServiceTier.FLEX)
    for job_id in ids:
        row = events[job_id]
        assert (row.input_amount, row.output_amount) == (expected.input, expected.output)
        assert (row.price_version_id, row.currency) == (price.id, "USD")
        assert row.multiplier == Decimal("0.5")
        assert row.month == month_of(row.finished_at)
        assert not row.late
    assert events[failed[0]].charged_output_tokens == 0
    assert len(await archived(database)) == 26


async def test_the_archive_gives_back_the_job_and_its_result(
    store: JobStore, database: Database
) -> None:
    (job_id,) = await end_jobs(store, 1)
    live = await store.get(job_id, "acme")
    result = fold(await store.read_log(job_id, 0))
    async with consuming(store, database):
        await until_consumed(store)
    (row,) = await archived(database)
    kept = ArchivedJob(row.job_id, row.record.encode(), row.result.encode())
    again = kept.job()
    assert again.spec.body == {}
    for name in ("status", "created", "finished", "output_tokens", "run_ms", "attempt", "queue"):
        assert getattr(again, name) == getattr(live, name)
    assert kept.outcome().choices[0].chunks == result.choices[0].chunks
    assert "".join(kept.outcome().choices[0].text) == "".join(result.choices[0].text)


async def test_a_replayed_outbox_changes_nothing(store: JobStore, database: Database) -> None:
    await a_price(database)
    await end_jobs(store, 10)
    entries = await copy_outbox(store)
    async with consuming(store, database):
        await until_consumed(store)
        before = await usage_of(database)
        await replay(store, entries + entries[:3])
        await until_consumed(store)
    assert await usage_of(database) == before
    assert len(before) == 10


async def test_several_consumers_share_the_work(store: JobStore, database: Database) -> None:
    await a_price(database)
    ids = await end_jobs(store, 60)
    async with (
        consuming(store, database, "c1", batch_events=7),
        consuming(store, database, "c2", batch_events=7),
    ):
        await until_consumed(store)
    assert set(await usage_of(database)) == set(ids)


async def test_what_a_dead_consumer_took_is_claimed(store: JobStore, database: Database) -> None:
    ids = await end_jobs(store, 5)
    dead = Outbox(store.redis, store.keys, GROUP, "dead")
    await dead.open()
    assert len(await dead.read(3)) == 3
    async with consuming(store, database, claim_seconds=0.2):
        await until_consumed(store)
    assert set(await usage_of(database)) == set(ids)


async def test_a_lost_group_is_made_anew_from_the_start(
    store: JobStore, database: Database
) -> None:
    redis: Any = store.redis
    async with consuming(store, database):
        await end_jobs(store, 2)
        await until_consumed(store)
        await redis.xgroup_destroy(store.keys.outbox, GROUP)
        await end_jobs(store, 2)
        await until_consumed(store)
    assert len(await usage_of(database)) == 4


POISON = [
    {"job": "job_x"},
    {"job": "job_x", "account": "a", "key_id": "", "model": "m", "status": "no such status"},
    {"something": b"\xff\x00"},
]


@pytest.mark.parametrize("fields", POISON)
async def test_an_unreadable_entry_is_set_aside_and_blocks_nothing(
    store: JobStore, database: Database, fields: dict[Any, Any]
) -> None:
    redis: Any = store.redis
    await redis.xadd(store.keys.outbox, fields)
    ids = await end_jobs(store, 3)
    async with consuming(store, database):
        await until_consumed(store)
    (entry,) = await set_aside(database)
    assert entry.reason
    assert set(await usage_of(database)) == set(ids)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": "1", "cached": "2"},
        {"output": "-1"},
        {"output": str(10**30)},
        {"output": str(10**70)},
        {"finished": str(10**18)},
        {"status": "queued"},
        {"account": "a\0b"},
        {"account": "a" * 300},
    ],
)
async def test_an_entry_that_cannot_be_is_found_by_halving_and_set_aside(
    store: JobStore, database: Database, wrong: dict[str, str]
) -> None:
    if database.is_sqlite and "account" in wrong:
        return  # it keeps any text
    await end_jobs(store, 9)
    entries = await copy_outbox(store)
    poison = {**entries[4], b"job": b"job_poison"}
    poison |= {name.encode(): value.encode() for name, value in wrong.items()}
    redis: Any = store.redis
    await redis.delete(store.keys.outbox)
    await replay(store, [*entries[:5], poison, *entries[5:]])
    async with consuming(store, database):
        await until_consumed(store)
    (entry,) = await set_aside(database)
    assert "job_poison" in entry.fields
    assert len(await usage_of(database)) == 9


async def test_usage_without_a_price_is_recorded_and_rated_when_there_is_one(
    store: JobStore, database: Database
) -> None:
    began = datetime.now(UTC)
    ids = await end_jobs(store, 3)
    async with consuming(store, database):
        await until_consumed(store)
    rows = await usage_of(database)
    assert [rows[job_id].price_version_id for job_id in ids] == [None] * 3
    ledger = Ledger(database)
    assert await ledger.rate_unpriced() == (0, 3)
    price = await a_price(database, valid_from=began.replace(microsecond=0))
    assert await ledger.rate_unpriced() == (3, 0)
    assert await ledger.rate_unpriced() == (0, 0)
    rows = await usage_of(database)
    assert {rows[job_id].price_version_id for job_id in ids} == {price.id}


async def test_usage_of_a_closed_month_goes_to_the_next_and_is_labelled(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    month = month_of(datetime.now(UTC))
    async with database.write() as connection:
        await connection.execute(insert(ClosedMonthRow), [{"month": month}])
    await end_jobs(store, 1)
    async with consuming(store, database):
        await until_consumed(store)
    (row,) = (await usage_of(database)).values()
    assert (row.month, row.late) == (next_month(month), True)


async def test_retention_starts_once_the_job_is_archived(
    store: JobStore, database: Database
) -> None:
    (job_id,) = await end_jobs(store, 1)
    key = store.keys.job(job_id)
    assert await store.redis.ttl(key) == -1
    async with consuming(store, database):
        await until_consumed(store)
    assert await store.redis.ttl(key) > 0


async def test_an_erased_job_is_billed_and_not_archived(
    store: JobStore, database: Database
) -> None:
    (job_id,) = await end_jobs(store, 1)
    await store.delete(job_id, "acme")
    with pytest.raises(JobGone):
        await store.get(job_id, "acme")
    async with consuming(store, database):
        await until_consumed(store)
    assert set(await usage_of(database)) == {job_id}
    assert await archived(database) == []


async def names(store: JobStore) -> set[bytes]:
    redis: Any = store.redis
    return {who["name"] for who in await redis.xinfo_consumers(store.keys.outbox, GROUP)}


async def test_who_left_long_ago_is_forgotten_unless_entries_are_in_their_hands(
    store: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end_jobs(store, 2)
    killed = Outbox(store.redis, store.keys, GROUP, "killed")
    holding = Outbox(store.redis, store.keys, GROUP, "holding")
    assert len(await holding.read(1)) == 1
    assert await killed.read(1, unacknowledged=True) == []
    assert await store.ended.forget_consumers(GROUP, 60_000) == 0
    assert await names(store) == {b"killed", b"holding"}
    assert await store.ended.forget_consumers(GROUP, 0) == 1
    assert await names(store) == {b"holding"}
    monkeypatch.setattr("billing.ledger.consumer.IDLE_CONSUMER_MS", 0)
    async with consuming(store, database, claim_seconds=0.1):
        await until_consumed(store)

        async def forgotten() -> bool:
            return b"holding" not in await names(store)

        await eventually(forgotten)
    assert len(await usage_of(database)) == 2


async def test_an_entry_given_to_a_read_that_nobody_waits_for_stays_in_the_group(
    store: JobStore, database: Database
) -> None:
    """Redis may still assign an entry to a stopped consumer's blocking read."""
    redis: Any = store.redis
    outbox = Outbox(store.redis, store.keys, GROUP, "stopped")
    await outbox.open()
    async with consuming(store, database, "stopped"):
        await eventually(lambda: names(store))
    await outbox.read(1, block_ms=1)
    (job_id,) = await end_jobs(store, 1)
    assert len(await outbox.read(1)) == 1  # what the server does for the read that was cancelled
    await store.ended.forget_consumers(GROUP, 0)
    assert len(await redis.xpending_range(store.keys.outbox, GROUP, "-", "+", 1)) == 1
    async with consuming(store, database, "other", claim_seconds=0.1):
        await until_consumed(store)
    assert set(await usage_of(database)) == {job_id}


async def write_log(store: JobStore, job_id: str, count: int) -> None:
    """Give a finished job a long log in place of its own."""
    redis: Any = store.redis
    key = store.keys.log(job_id)
    (last,) = await redis.xrevrange(key, count=1)
    await redis.delete(key)
    pipe = redis.pipeline(transaction=False)
    for seq in range(1, count):
        pipe.xadd(key, {"t": "delta", "d": delta([seq])}, id=f"{seq}-0")
    pipe.xadd(key, last[1], id=f"{count}-0")
    await pipe.execute()


async def test_however_long_logs_are_redis_is_asked_for_few_events_at_once(
    store: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.archive.archived_job.READ_EVENTS", 50)
    lengths = dict(zip(await end_jobs(store, 6), (2, 50, 30, 51, 400, 20), strict=True))
    entries = await copy_outbox(store)
    for fields in entries:
        length = lengths[fields[b"job"].decode()]
        await write_log(store, fields[b"job"].decode(), length)
        fields[b"seq"] = str(length).encode()
    redis: Any = store.redis
    await redis.delete(store.keys.outbox)
    await replay(store, entries)
    most: list[int] = []
    records, read_log = store.ended.records, store.read_log

    async def watched(jobs: Any) -> Any:
        answer = await records(jobs)
        most.append(sum(len(log) for _, log in answer))
        return answer

    async def watched_log(*args: Any) -> Any:
        answer = await read_log(*args)
        most.append(len(answer))
        return answer

    monkeypatch.setattr(store.ended, "records", watched)
    monkeypatch.setattr(store, "read_log", watched_log)
    async with consuming(store, database):
        await until_consumed(store)
    rows = {row.job_id: row for row in await archived(database)}
    for job_id, length in lengths.items():
        kept = ArchivedJob(job_id, rows[job_id].record.encode(), rows[job_id].result.encode())
        assert kept.outcome().choices[0].token_count == length - 1
        assert kept.outcome().usage is not None
    assert max(most) <= 50


BAD_EVENTS = [
    {"t": "delta", "d": b'{"index": 0, "text": "SECRET"}'},
    {"t": "delta", "d": b"SECRET: no JSON"},
    {"t": "delta", "d": b'["SECRET"]'},
    {"t": b"\xff\xfe", "d": b"SECRET"},
    {"t": "finished", "d": b'{"status": "SECRET"}'},
]


@pytest.mark.parametrize("event", BAD_EVENTS)
async def test_a_job_whose_log_cannot_be_read_is_billed_and_holds_up_nothing(
    store: JobStore, database: Database, event: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = await end_jobs(store, 5)
    redis: Any = store.redis
    key = store.keys.log(ids[2])
    await redis.delete(key)
    await redis.xadd(key, event, id="1-0")
    await redis.hset(store.keys.job(ids[3]), "error", b"\xff SECRET")
    async with consuming(store, database):
        await until_consumed(store)
    assert set(await usage_of(database)) == set(ids)
    assert {row.job_id for row in await archived(database)} == {ids[0], ids[1], ids[4]}
    assert await set_aside(database) == []
    said = [line for line in capsys.readouterr().out.splitlines() if "job_not_archived" in line]
    assert [ids[2] in said[0], ids[3] in said[1]] == [True, True]
    assert "SECRET" not in "".join(said)


async def test_a_job_that_sql_will_not_archive_is_billed_all_the_same(
    store: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await end_jobs(store, 5)

    async def refused_by_sql(*args: Any) -> list[ArchivedJob]:
        found = await read_finished(*args)
        # Text that is no UTF-8: neither database takes it.
        return [
            replace(job, record=b"\xed\xa0\x80") if job.job_id == ids[2] else job for job in found
        ]

    monkeypatch.setattr("billing.ledger.consumer.read_finished", refused_by_sql)
    async with consuming(store, database):
        await until_consumed(store)
    assert set(await usage_of(database)) == set(ids)
    assert {row.job_id for row in await archived(database)} == set(ids) - {ids[2]}
    assert await set_aside(database) == []


@pytest.mark.parametrize("start", ["archive", "finish"])
async def test_a_job_erased_while_it_was_archived_is_gone_though_the_ledger_died(
    redis_server: RedisServer, database: Database, start: str
) -> None:
    store = open_store(settings_for(redis_server, retention={"start": start}))
    erased, expired, kept = ids = await end_jobs(store, 3)
    dead = Outbox(store.redis, store.keys, GROUP, "dead")
    entries = [entry for entry in await dead.read(10) if isinstance(entry, UsageEntry)]
    finished = await read_finished(store, entries)
    await store.delete(erased, "acme")
    await Ledger(database).record(entries, finished)  # and here it dies
    if start == "finish":
        await store.redis.delete(store.keys.job(expired), store.keys.log(expired))
        await store.redis.delete(store.keys.job(kept), store.keys.gone(kept))
    else:  # and later than tombstones are kept
        await store.redis.delete(store.keys.gone(erased))
    async with consuming(store, database, claim_seconds=0.1):
        await until_consumed(store)
    assert {row.job_id for row in await archived(database)} == {expired, kept}
    assert set(await usage_of(database)) == set(ids)
    await store.close()


async def test_the_ledger_has_the_digest_of_the_weights_of_the_last_attempt(
    store: JobStore, database: Database
) -> None:
    ran, never_ran, older = submission(), submission(), submission()
    for job in (ran, older):
        await store.submit(job)
    for weights in ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"):
        claims = await store.claim(QUEUE, "w1", 2, weights)
        for claimed in claims:
            if weights.startswith("a"):
                await store.requeue(claimed.id, claimed.fence, EngineError("broke"))
            else:
                await write(store, claimed, claimed.seq, [7], ending=Ending(Status.COMPLETED))
    await store.submit(never_ran)
    assert await store.cancel(never_ran.id, never_ran.account) == "cancelled"
    entries = await copy_outbox(store)
    redis: Any = store.redis
    await redis.delete(store.keys.outbox)
    for entry in entries:
        if entry[b"job"].decode() == older.id:
            del entry[b"weights"]  # as older scripts write it
    await replay(store, entries)
    async with consuming(store, database):
        await until_consumed(store)
    found = {job_id: row.weights for job_id, row in (await usage_of(database)).items()}
    assert found == {ran.id: "bbbbbbbbbbbbbbbb", never_ran.id: "", older.id: None}


async def test_metrics_name_so_many_accounts_as_the_setting_allows(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    metrics.account_tokens.clear()
    metrics.account_charged.clear()
    accounts = [f"named-{number}" for number in range(4)]

    def counted(name: str, account: str, **labels: str) -> float | None:
        of = {"account": account, "model": QUEUE, **labels}
        return metrics.LEDGER.get_sample_value(f"penstock_account_{name}_total", of)

    async with consuming(store, database):
        await end_jobs(store, 1, account=accounts[0])
        await until_consumed(store)
    assert counted("tokens", accounts[0], kind="output") is None, "off by default"
    async with consuming(store, database, metric_accounts=2):
        for account in accounts:
            await end_jobs(store, 2, account=account)
            await until_consumed(store)
    shown = [counted("tokens", account, kind="output") for account in (*accounts, OTHERS)]
    assert shown == [2, 2, None, None, 4]
    assert [counted("tokens", OTHERS, kind=kind) for kind in ("input", "cached_input")] == [12, 0]
    events = [row for row in (await usage_of(database)).values() if row.account_id == accounts[1]]
    charged = sum(row.input_amount + row.cached_amount + row.output_amount for row in events)
    assert counted("charged", accounts[1], currency="USD") == pytest.approx(float(charged))
