"""Budget reservations are exact under concurrent submits and end as the ledger's spending."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from accounts.account_rows import account_exists
from accounts.errors import AccountNotFound
from billing.budgets.budget_changes import models_not_covered, remove_budget, set_budget
from billing.budgets.budgets import Budget, load_budgets, max_cost, max_tokens
from billing.budgets.spending import SpentSum, spending_in
from billing.budgets.warnings import record_warnings
from billing.errors import InvalidBudget
from billing.ledger.consumer import GROUP
from billing.ledger.ledger import Ledger
from billing.ledger.settlement import settle_budgets
from billing.money import total
from billing.months import month_of
from core.db.database import Database
from core.db.schema_version import upgrade
from core.db.tables.accounts import ApiKeyRow
from core.db.tables.base import table_of
from core.db.tables.budgets import BudgetRow, BudgetWarningRow, SpendingRow
from core.db.tables.types import UtcTime
from core.db.tables.usage import UsageEventRow
from core.errors import BudgetExceeded, SpendingUnknown
from core.settings.billing import DatabaseSettings
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store.budget_reservations import (
    ACCOUNT,
    BudgetLimit,
    BudgetMonth,
    BudgetReservation,
    SpentAmount,
    from_nanos,
    to_nanos,
)
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Outbox, UsageEntry
from tests.support.budgets import give_budget
from tests.support.jobs import submission
from tests.support.ledger import a_price, amounts, consuming, end_jobs, until_consumed, usage_of
from tests.support.months import an_account

MONTH = month_of(datetime.now(UTC))
BUCKET = BudgetMonth("acme", MONTH, "USD")


def a_hold(nanos: int, *limits: BudgetLimit) -> BudgetReservation:
    return BudgetReservation(BUCKET, nanos, limits or (BudgetLimit(ACCOUNT, 1_000),))


async def known(store: JobStore, spent: int = 0) -> None:
    await store.reservations.settle([], [SpentAmount(BUCKET, ACCOUNT, spent)])


async def spend(store: JobStore) -> dict[str, int]:
    """Return Redis's counters of spent and reserved amounts."""
    redis: Any = store.redis
    balance, month = BUCKET.script_args
    spent = await redis.hgetall(f"{store.keys.prefix}:spend:{balance}:{month}")
    held = await redis.hgetall(f"{store.keys.prefix}:held:{balance}")
    return {
        f"{what}:{scope.decode()}": int(value)
        for what, found in (("spent", spent), ("held", held))
        for scope, value in found.items()
    }


async def test_exactly_as_many_jobs_fit_as_the_budget_allows_whoever_submits_at_once(
    store: JobStore,
) -> None:
    await known(store, spent=100)

    async def one() -> bool:
        try:
            await store.submit(submission(reservation=a_hold(90)))
        except BudgetExceeded:
            return False
        return True

    accepted = await asyncio.gather(*(one() for _ in range(200)))
    assert sum(accepted) == 10
    assert await spend(store) == {"spent:*": 100, "held:*": 900}


async def test_what_is_left_is_said(store: JobStore) -> None:
    await known(store, spent=400)
    with pytest.raises(BudgetExceeded) as refused:
        await store.submit(submission(reservation=a_hold(601)))
    assert refused.value.budget == {
        "scope": "account",
        "month": MONTH,
        "currency": "USD",
        "left": "0.000000600",
        "needed": "0.000000601",
    }
    assert "held:*" not in await spend(store)


async def test_the_scarcest_of_account_and_key_decides(store: JobStore) -> None:
    await known(store)
    limits = BudgetLimit(ACCOUNT, 1_000), BudgetLimit("key_1", 150)
    await store.submit(submission(reservation=a_hold(100, *limits)))
    with pytest.raises(BudgetExceeded) as refused:
        await store.submit(submission(reservation=a_hold(100, *limits)))
    assert refused.value.budget["scope"] == "key"
    await store.submit(
        submission(reservation=a_hold(100, BudgetLimit(ACCOUNT, 1_000), BudgetLimit("key_2", 150)))
    )
    held = {"held:*": 200, "held:key_1": 100, "held:key_2": 100}
    assert await spend(store) == {"spent:*": 0} | held


async def test_a_soft_budget_holds_but_never_refuses(store: JobStore) -> None:
    await known(store)
    await store.submit(submission(reservation=a_hold(5_000, BudgetLimit(ACCOUNT, None))))
    assert (await spend(store))["held:*"] == 5_000


async def test_without_knowledge_of_the_spending_nothing_is_accepted(store: JobStore) -> None:
    with pytest.raises(SpendingUnknown):
        await store.submit(submission(reservation=a_hold(1)))
    await known(store)
    await store.submit(submission(reservation=a_hold(1)))


async def test_a_repeated_submit_holds_once(store: JobStore) -> None:
    await known(store)
    job = submission(reservation=a_hold(700), idempotency_key="k")
    await store.submit(job)
    await store.submit(job)
    again = await store.submit(submission(reservation=a_hold(700), idempotency_key="k"))
    assert again.replayed
    assert (await spend(store))["held:*"] == 700


async def test_spending_only_rises_whatever_order_it_is_heard_in(store: JobStore) -> None:
    await known(store, spent=500)
    await known(store, spent=300)
    assert await spend(store) == {"spent:*": 500}


@pytest.mark.parametrize("status", [s for s in Status if s.is_terminal])
async def test_every_end_of_a_job_turns_its_hold_into_what_the_ledger_says(
    store: JobStore, database: Database, status: Status
) -> None:
    await a_price(database)
    await known(store)
    await end_jobs(store, 3, status, reservation=a_hold(200))
    assert (await spend(store))["held:*"] == 600
    async with consuming(store, database):
        await until_consumed(store)
    events = await usage_of(database)
    spent = total(*chain.from_iterable(amounts(row) for row in events.values()))
    found = await spend(store)
    assert "held:*" not in found
    assert found["spent:*"] == int((spent * 10**9).to_integral_value("ROUND_CEILING"))
    assert (status is Status.FAILED) == (spent == 0)


async def test_the_hold_of_a_model_that_costs_nothing_is_let_go_too(store: JobStore) -> None:
    await known(store)
    job, dear = submission(reservation=a_hold(0)), submission(reservation=a_hold(5))
    await store.submit(job)
    await store.submit(dear)
    await store.reservations.settle([job.id], [])
    assert (await spend(store))["held:*"] == 5
    await store.reservations.settle([dear.id], [])
    assert "held:*" not in await spend(store)


async def test_settling_twice_or_dying_in_between_counts_once(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await known(store)
    await end_jobs(store, 2, reservation=a_hold(100))
    outbox = Outbox(store.redis, store.keys, GROUP, "dies")
    await outbox.open()
    entries = await outbox.read(10)
    usage = [entry for entry in entries if isinstance(entry, UsageEntry)]
    await Ledger(database).record(usage, [])
    await settle_budgets(store, database, entries)
    settled = await spend(store)
    assert settled["spent:*"] > 0
    async with consuming(store, database, claim_seconds=0.1):  # and it dies before it acknowledges
        await until_consumed(store)
    assert await spend(store) == settled


async def test_spending_comes_back_from_the_ledger_after_redis_lost_it(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await known(store)
    await end_jobs(store, 4, key_id="key_1", reservation=a_hold(100))
    async with consuming(store, database):
        await until_consumed(store)
    before = await spend(store)
    redis: Any = store.redis
    await redis.delete(":".join((store.keys.prefix, "spend", *BUCKET.script_args)))
    async with database.read() as connection:
        sums = await spending_in(connection, BUCKET)
    await store.reservations.settle([], [one.spent for one in sums])
    assert (await spend(store))["spent:*"] == before["spent:*"] > 0


async def test_what_was_held_last_month_counts_in_the_month_it_will_end_in(
    store: JobStore,
) -> None:
    last = replace(BUCKET, month="2026-10")
    await store.reservations.settle(
        [], [SpentAmount(last, ACCOUNT, 0), SpentAmount(BUCKET, ACCOUNT, 0)]
    )
    await store.submit(submission(reservation=replace(a_hold(900), bucket=last)))
    with pytest.raises(BudgetExceeded):
        await store.submit(submission(reservation=a_hold(101)))
    await store.submit(submission(reservation=a_hold(100)))


async def test_the_sweep_lets_go_of_a_hold_whose_job_left_no_usage(store: JobStore) -> None:
    await known(store)
    leaked, alive = submission(reservation=a_hold(300)), submission(reservation=a_hold(200))
    await store.submit(leaked)
    await store.submit(alive)
    redis: Any = store.redis
    await redis.delete(
        store.keys.job(leaked.id)
    )  # as after a Redis crash that lost the last second
    assert await store.reservations.sweep() == 1
    assert (await spend(store))["held:*"] == 200


async def test_a_deleted_job_is_held_for_until_its_usage_is_recorded(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await known(store)
    (job_id,) = await end_jobs(store, 1, reservation=a_hold(300))
    redis: Any = store.redis
    await redis.delete(store.keys.job(job_id))
    assert await store.reservations.sweep() == 0
    assert (await spend(store))["held:*"] == 300
    async with consuming(store, database):
        await until_consumed(store)
    found = await spend(store)
    assert "held:*" not in found
    assert found["spent:*"] > 0


async def check_spending(database: Database, keys: Sequence[str]) -> None:
    """Check that the spending is the sum of the jobs' costs, each rounded up to billionths."""
    usage, spending = table_of(UsageEventRow).c, table_of(SpendingRow)
    expected = dict.fromkeys(keys, 0)
    async with database.read() as connection:
        rows = await connection.execute(
            select(usage.key_id, usage.input_amount, usage.cached_amount, usage.output_amount)
        )
        for key, *amounts in rows:
            expected[key] += to_nanos(total(*amounts), up=True)
        kept = await connection.execute(select(spending.c.key_id, spending.c.amount))
        found = {row.key_id: row.amount for row in kept}
    assert found == {key: from_nanos(nanos) for key, nanos in expected.items()}


async def test_a_sum_stays_exact_however_large_it_and_its_amounts_are(
    store: JobStore, database: Database
) -> None:
    """As 14 decimals SQLite has room for 92,233 units, and silently goes on with floats."""
    odd = Decimal("999999.999999")
    await a_price(database, input=odd, cached_input=odd, output=odd, flex=Decimal("0.33"))
    await end_jobs(store, 4, key_id="key_1", tier=ServiceTier.FLEX)
    redis: Any = store.redis
    entries = [fields for _, fields in await redis.xrange(store.keys.outbox)]
    await redis.delete(store.keys.outbox)
    for number, fields in enumerate(entries):
        tokens = {b"input": 260_000 + number, b"cached": 10_001, b"output": 270_001}
        await redis.xadd(store.keys.outbox, fields | tokens)
    async with consuming(store, database):
        await until_consumed(store)
    assert len(await usage_of(database)) == 4
    await check_spending(database, ["key_1"])


async def test_a_sum_that_cannot_be_exact_is_refused(database: Database) -> None:
    if not database.is_sqlite:
        return  # its numbers have no such end
    table = table_of(SpendingRow)
    row = {"account_id": "acme", "month": MONTH, "currency": "USD", "key_id": ""}
    largest = Decimal("9223372036.854775807")
    with pytest.raises(StatementError, match="too large"):
        async with database.write() as connection:
            await connection.execute(insert(table), [{**row, "amount": largest + from_nanos(1)}])
    async with database.write() as connection:
        await connection.execute(insert(table), [{**row, "amount": largest}])
    with pytest.raises(IntegrityError, match="ck_spending_exact"):
        async with database.write() as connection:
            await connection.execute(update(table).values(amount=text("amount + 1")))


async def test_spending_is_the_sum_of_the_ledger_also_after_late_prices_and_replays(
    store: JobStore, database: Database
) -> None:
    await end_jobs(store, 5, key_id="key_1")
    async with consuming(store, database, "c1"), consuming(store, database, "c2"):
        await until_consumed(store)
    await a_price(database, valid_from=datetime(2026, 1, 1, tzinfo=UTC))
    await Ledger(database).rate_unpriced()
    await end_jobs(store, 20, key_id="key_2", tier=ServiceTier.FLEX)
    async with consuming(store, database, "c1"), consuming(store, database, "c2"):
        await until_consumed(store)
    await check_spending(database, ["key_1", "key_2"])


async def test_each_percentage_warns_once_a_month(store: JobStore, database: Database) -> None:
    await a_price(database)
    (one_job,) = await end_jobs(store, 1)
    async with consuming(store, database):
        await until_consumed(store)
        row = (await usage_of(database))[one_job]
        cost = total(*amounts(row))
        budget = await give_budget(
            database, Budget("acme", cost.quantize(Decimal("0.000001")) + Decimal("0.000001"))
        )
        await end_jobs(store, 3)
        await until_consumed(store)
        await end_jobs(store, 3)
        await until_consumed(store)
    async with database.read() as connection:
        warnings = (await connection.execute(select(table_of(BudgetWarningRow)))).all()
    assert sorted(warning.percent for warning in warnings) == [50, 80, 100]
    assert {(warning.budget_id, warning.month) for warning in warnings} == {(budget.id, MONTH)}


async def test_what_was_spent_in_an_earlier_month_warns_of_nothing(database: Database) -> None:
    budget = await give_budget(database, Budget("acme", Decimal(1)))
    await record_warnings(
        database, [budget], [SpentSum(replace(BUCKET, month="2026-10"), ACCOUNT, Decimal(5))]
    )
    assert await percents(database) == []


async def test_a_raised_budget_warns_again_of_what_is_no_longer_true(database: Database) -> None:
    spent = [SpentSum(BUCKET, ACCOUNT, Decimal(6))]
    budget = await give_budget(database, Budget("acme", Decimal(10), warn_percents=(20, 50)))
    await record_warnings(database, [budget], spent)
    assert await percents(database) == [20, 50]
    raised = await give_budget(database, replace(budget, amount=Decimal(20)))
    assert raised.id == budget.id
    assert await percents(database) == [20]
    await record_warnings(database, [raised], spent)
    assert await percents(database) == [20]


async def test_a_budget_below_what_was_spent_warns_when_it_is_set(
    store: JobStore, database: Database
) -> None:
    await a_price(database)
    await end_jobs(store, 3)
    async with consuming(store, database):
        await until_consumed(store)
    await give_budget(database, Budget("acme", Decimal("0.000001")))
    assert await percents(database) == [50, 80, 100]


async def test_an_update_gives_the_budgets_of_rotated_keys_to_the_first_key(
    empty_database: DatabaseSettings,
) -> None:
    await asyncio.to_thread(upgrade, empty_database, "2026_11_30_0140")
    database = Database(empty_database, "test")
    try:
        await an_account(database)
        await some_keys(database, key_1=None, key_2="key_1", key_3="key_2", other=None)
        rows = [("b1", "key_1", 1), ("b3", "key_3", 3), ("b2", "key_2", 2), ("bo", "other", 1)]
        values = {"account_id": "acme", "currency": "USD", "amount": Decimal(1)}
        async with database.write() as connection:
            for id_, key, day in rows:
                at = datetime(2026, 11, day, tzinfo=UTC)
                row = values | {"id": id_, "key_id": key, "changed_at": at}
                await connection.execute(insert(BudgetRow), [row])
        await asyncio.to_thread(upgrade, empty_database)
        async with database.read() as connection:
            budgets = await load_budgets(connection)
            keys = (await connection.execute(select(ApiKeyRow.id, ApiKeyRow.origin_id))).all()
    finally:
        await database.close()
    assert {one.id: one.key_id for one in budgets} == {"b3": "key_1", "bo": "other"}
    assert {tuple(row) for row in keys} == {
        *(("key_1", None), ("key_2", "key_1"), ("key_3", "key_1"), ("other", None))
    }


async def some_keys(database: Database, **rotated_from: str | None) -> None:
    """Add keys of acme by id, each with the key that it was rotated from."""
    async with database.write() as connection:
        for name, earlier in rotated_from.items():
            query = text(
                "INSERT INTO api_keys (id, account_id, sha256, name, weight, max_running, admin,"
                " created_at, rotated_from) VALUES (:id, 'acme', :id, '', 1, 0, false, :at, :from)"
            )
            at = bindparam("at", datetime(2026, 11, 1, tzinfo=UTC), type_=UtcTime())
            values = {"id": name, "from": earlier}
            await connection.execute(query.bindparams(at), values)


async def percents(database: Database) -> list[int]:
    table = table_of(BudgetWarningRow)
    async with database.read() as connection:
        return sorted(await connection.scalars(select(table.c.percent)))


async def test_a_budget_replaces_the_one_before_and_can_be_removed(database: Database) -> None:
    await an_account(database)
    await some_keys(database, key_1=None)
    await give_budget(database, Budget("acme", Decimal(5)))
    await give_budget(database, Budget("acme", Decimal(7), key_id="key_1", hard=False))
    await give_budget(database, Budget("acme", Decimal("9.5"), when_unknown="allow"))
    async with database.read() as connection:
        found = await load_budgets(connection)
    assert [(b.key_id, b.amount, b.hard, b.when_unknown) for b in found] == [
        ("", Decimal("9.5"), True, "allow"),
        ("key_1", Decimal(7), False, "refuse"),
    ]
    assert await remove_budget(database, "acme", "key_1")
    assert not await remove_budget(database, "acme", "key_1")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount": Decimal(-1)}, "amount"),
        ({"amount": Decimal("NaN")}, "amount"),
        ({"amount": Decimal("0.0000001")}, "amount"),
        ({"currency": "usd"}, "currency"),
        ({"key_id": "key_9"}, "key"),
        ({"warn_percents": (0,)}, "warn_percents"),
        ({"webhook": "ftp://x"}, "webhook"),
        ({"webhook": "http://"}, "webhook"),
        ({"webhook": "http://host:port/"}, "webhook"),
    ],
)
async def test_a_wrong_budget_is_refused_by_field(
    database: Database, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidBudget) as refused:
        await give_budget(database, replace(Budget("acme", Decimal(1)), **wrong))
    assert refused.value.param == field


async def test_a_job_that_uses_all_it_may_costs_no_more_than_was_held(database: Database) -> None:
    price = await a_price(database)
    body = {"prompt": "é" * 40, "max_tokens": 100, "n": 3}
    bound = max_tokens(body, 120, 4096)
    assert bound.output == 300
    assert bound.input == 120 + 512
    assert max_tokens({"prompt": "x"}, 20, 4096).output == 4096
    assert max_cost([price], ServiceTier.PRIORITY, bound) == Decimal("0.0003246")
    dearer = replace(price, output=Decimal(3))
    assert max_cost([price, dearer], ServiceTier.DEFAULT, bound) == Decimal("0.0010264")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": []},
    ],
)
def test_what_is_not_plain_text_may_fill_the_context(body: dict[str, Any]) -> None:
    assert max_tokens(body, 100, 4096).input == 4096
    text = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
    assert max_tokens(text, 100, 4096).input == 612


async def test_a_budget_for_an_unknown_account_is_refused_and_makes_none(
    database: Database,
) -> None:
    with pytest.raises(AccountNotFound, match="'typo'"):
        await set_budget(database, Budget("typo", Decimal(1)))

    async with database.read() as connection:
        assert not await account_exists(connection, "typo")


async def test_a_budget_that_would_cover_nothing_is_refused_and_models_left_out_are_named(
    database: Database,
) -> None:
    await an_account(database, "acme")
    await set_budget(database, Budget("acme", Decimal(1), currency="EUR"))  # no prices yet
    await a_price(database)
    with pytest.raises(
        InvalidBudget, match="in EUR, so this budget would cover nothing; there are prices in USD"
    ):
        await set_budget(database, Budget("acme", Decimal(1), currency="EUR"))
    await set_budget(database, Budget("acme", Decimal(1)))
    assert await models_not_covered(database, "USD") == []
    await a_price(database, "other", currency="EUR")
    assert await models_not_covered(database, "USD") == ["other"]


@pytest.mark.parametrize("account", [" acme", "acme ", "a cme", ""])
async def test_an_id_with_blanks_gets_no_budget(database: Database, account: str) -> None:
    await an_account(database, "acme")
    with pytest.raises(AccountNotFound):
        await set_budget(database, Budget(account, Decimal(1)))
    with pytest.raises(InvalidBudget, match="has no key"):
        await set_budget(database, Budget("acme", Decimal(1), key_id=" "))
