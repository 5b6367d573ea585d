"""Bulk inserts bind values exactly as single inserts do."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError

from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.prices import PriceVersion

VERSIONS = table_of(PriceVersion)


def a_version(number: int, **fields: Any) -> dict[str, Any]:
    """Return a row of a table that has both amounts and times."""
    return {
        "id": f"price_{number}",
        "model": f"m{number}",
        "currency": "USD",
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "priority_multiplier": Decimal("1.25"),
        "flex_multiplier": Decimal("1E-2"),
        **fields,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"flex_multiplier": Decimal("0.555")},
        {"flex_multiplier": Decimal("NaN")},
        {"valid_from": datetime(2026, 1, 1)},  # noqa: DTZ001 - the point of it
    ],
)
async def test_what_a_column_would_round_or_guess_is_refused_with_all_its_rows(
    database: Database, wrong: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, StatementError)):
        async with database.write() as connection:
            await insert_missing(connection, VERSIONS, [a_version(1), a_version(2, **wrong)])
    async with database.read() as connection:
        assert (await connection.execute(select(VERSIONS))).all() == []


async def test_what_fits_is_read_back_as_it_was(database: Database) -> None:
    rows = [a_version(1), a_version(2)]
    async with database.write() as connection:
        assert await insert_missing(connection, VERSIONS, rows) == 2
        assert await insert_missing(connection, VERSIONS, rows) == 0
        found = (await connection.execute(select(*(VERSIONS.c[name] for name in rows[0])))).all()
    assert [row._asdict() for row in found] == rows
