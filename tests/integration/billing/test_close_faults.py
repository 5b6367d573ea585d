"""Closing a month while the process is killed or usage arrives: no half-closed month."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from billing.ledger.ledger import closed_months
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.invoices import InvoiceLineRow, InvoiceRow
from core.errors import DatabaseUnavailable
from core.runtime.child_process import ChildProcess
from core.settings.billing import DatabaseSettings
from tests.support.commands import PENSTOCK, started
from tests.support.months import MONTH, a_past_price, close, usage_entry, used
from tests.support.waiting import eventually

#: Makes the last step of a close slow, so that there is time to kill it after its writes.
SLOW = {
    "sqlite": """
        CREATE TRIGGER slow AFTER INSERT ON closed_months BEGIN SELECT count(*)
        FROM usage_events a, usage_events b, usage_events c, usage_events d, usage_events e; END
    """,
    "postgresql": """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
        CREATE TRIGGER slow AFTER INSERT ON closed_months FOR EACH ROW EXECUTE FUNCTION slow()
    """,
}
FAST = {"sqlite": "DROP TRIGGER slow", "postgresql": "DROP FUNCTION slow() CASCADE"}
EVENTS = 150


async def run(database: Database, *statements: str) -> None:
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


def kind(database: Database) -> str:
    return "sqlite" if database.is_sqlite else "postgresql"


async def is_closing(database: Database) -> bool:
    """Return whether a close is under way; on SQLite no other writer can begin then."""
    if not database.is_sqlite:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        async with database.read() as connection:
            return bool(await connection.scalar(query))
    try:
        await run(database, "UPDATE exports SET rows = rows")
    except DatabaseUnavailable:
        return True
    return False


async def counts(database: Database) -> list[int | None]:
    async with database.read() as connection:
        return [
            await connection.scalar(select(func.count()).select_from(table_of(rows)))
            for rows in (InvoiceRow, InvoiceLineRow)
        ]


@contextmanager
def closing(settings: DatabaseSettings, log: Path) -> Iterator[ChildProcess]:
    url = settings.url.get_secret_value()
    command = [str(PENSTOCK), "bills", "close", MONTH, "--force"]
    process = started(command, log, PENSTOCK_DATABASE__URL=url)
    try:
        yield process
    finally:
        process.kill()


async def test_a_close_that_is_killed_midway_leaves_the_month_open(
    database: Database, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    await a_past_price(database)
    await used(database, *(usage_entry() for _ in range(EVENTS)))
    await run(database, SLOW[kind(database)])
    with closing(database_settings, tmp_path / "close.log") as process:
        await eventually(lambda: is_closing(database), 30)
        assert process.running
        process.kill()

    assert await counts(database) == [0, 0]
    async with database.read() as connection:
        assert await closed_months(connection) == frozenset()
    await eventually(lambda: _fast(database), 20)
    assert len((await close(database)).invoices) == 1
    assert await counts(database) == [1, 3]


async def _fast(database: Database) -> bool:
    """Remove the slow trigger; return whether the database let us."""
    if not database.is_sqlite:
        await run(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        )
    try:
        await run(database, FAST[kind(database)])
    except DatabaseUnavailable:
        return False
    return True


# On SQLite a write transaction locks the whole file, so no usage can arrive.
@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_usage_that_comes_while_a_month_closes_waits_and_is_late(
    database: Database, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    await a_past_price(database)
    await used(database)
    async with database.write() as connection:
        await connection.execute(text("LOCK TABLE closed_months IN SHARE MODE"))
        with closing(database_settings, tmp_path / "close.log") as process:

            async def waits() -> bool:
                query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                async with database.read() as other:
                    return bool(await other.scalar(query))

            await eventually(waits, 30)
            with pytest.raises(DatabaseUnavailable):
                await used(database, usage_entry())
            await connection.rollback()
            assert process.wait(30) == 0, process.output()
    await used(database, usage_entry())
    async with database.read() as connection:
        rows = (await connection.execute(text("SELECT month, late FROM usage_events"))).all()
    assert sorted(tuple(row) for row in rows) == [(MONTH, False), ("2026-11", True)]
