"""A month of usage events in a database, and measured runs of `penstock` commands on it.

The database generates the events by SQL, because inserting them is not measured.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text

from bench.servers.postgres import postgres
from billing.pricing.prices import NewPrice, set_price
from core.db.database import Database
from core.db.schema_version import upgrade
from core.runtime.child_process import ChildProcess, Program
from core.settings.billing import DatabaseSettings

EVENTS = 5_000_000
SQLITE_EVENTS = 500_000
MONTH = "2026-10"
MODELS = 4
ACCOUNTS = 200

#: SQL expression: the index of a job's tier.
CHOICE = f"1 + CAST(i / {MODELS} % 4 AS int)"

#: Usage events of many accounts, spread over the month, on PostgreSQL.
FILL = f"""
INSERT INTO usage_events
SELECT 'job_' || lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0')
         || lpad(to_hex(i), 20, '0'),
       'account-' || (i * 7919 % {ACCOUNTS}), 'key_' || (i % 400), jobs.model, tier, 'completed',
       1, 66, 900 + i % 100, 100, 300 + i % 200, 1500,
       at - interval '2 s', at - interval '1 s', at, at,
       '{MONTH}', false, 800 + i % 100, 100, 300 + i % 200, price.id, 'USD', times,
       (800 + i % 100) * 0.2 * times / 1000000, 100 * 0.05 * times / 1000000,
       (300 + i % 200) * 0.3 * times / 1000000
FROM (
  SELECT i, 'model-' || (i % {MODELS}) AS model,
         timestamptz '{MONTH}-01 00:00:00Z' + i * interval '30 days' / :events AS at,
         (ARRAY['default', 'default', 'priority', 'flex'])[{CHOICE}] AS tier,
         (ARRAY[1, 1, 1.5, 0.5])[{CHOICE}] AS times
  FROM generate_series(CAST(0 AS bigint), :events - 1) AS i
) AS jobs
JOIN price_versions AS price USING (model)
"""

#: The same on SQLite: amounts are integers of 14 decimals, times are text.
FILL_SQLITE = f"""
WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < :events - 1)
INSERT INTO usage_events
SELECT printf('job_%012x%020x', i, i), 'account-' || (i * 7919 % {ACCOUNTS}), 'key_' || (i % 400),
       price.model, 'default', 'completed', 1, 66, 900 + i % 100, 100, 300 + i % 200, 1500,
       at, at, at, at, '{MONTH}', false, 800 + i % 100, 100, 300 + i % 200, price.id, 'USD', 100,
       (800 + i % 100) * 20000000, 100 * 5000000, (300 + i % 200) * 30000000
FROM (
  SELECT i, strftime('%Y-%m-%d %H:%M:%f000', '{MONTH}-01', (i % 2500000) || ' seconds') AS at
  FROM numbers
) AS jobs
JOIN price_versions AS price ON price.model = 'model-' || (i % {MODELS})
"""


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One run of a command: seconds, peak memory in MiB, and its output."""

    seconds: float
    peak_mib: float
    output: str


@dataclass(frozen=True, slots=True)
class BenchLedger:
    """A database that holds a month of usage events."""

    settings: DatabaseSettings

    def penstock(self, *arguments: str) -> BenchRun:
        """Run a `penstock` command in a process of its own and measure it.

        Raises:
            RuntimeError: the command failed.
        """
        command = [str(Path(sys.executable).with_name("penstock")), *arguments]
        url = self.settings.url.get_secret_value()
        env = {**os.environ, "PENSTOCK_DATABASE__URL": url, "PENSTOCK_SELLER__NAME": "Bench"}
        with tempfile.TemporaryDirectory() as folder:
            process = ChildProcess(Program("penstock", command, Path(folder, "log"), env))
            began = time.perf_counter()
            process.begin()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            if os.waitstatus_to_exitcode(status):
                raise RuntimeError(f"penstock {' '.join(arguments)} failed:\n{process.tail()}")
            return BenchRun(seconds, usage.ru_maxrss / 1024, process.output())


@asynccontextmanager
async def on_postgresql(events: int = EVENTS) -> AsyncIterator[BenchLedger]:
    """Fill a PostgreSQL database for the length of a block."""
    with postgres() as url:
        yield await _fill(url, FILL, events)


@asynccontextmanager
async def on_sqlite(events: int = SQLITE_EVENTS) -> AsyncIterator[BenchLedger]:
    """Fill a SQLite file for the length of a block."""
    with tempfile.TemporaryDirectory() as folder:
        yield await _fill(f"sqlite+aiosqlite:///{folder}/penstock.db", FILL_SQLITE, events)


async def _fill(url: str, statement: str, events: int) -> BenchLedger:
    settings = DatabaseSettings(url=SecretStr(url))
    await asyncio.to_thread(upgrade, settings)
    database = Database(settings, "bench", bounded=False)
    since = datetime(2026, 10, 1, tzinfo=UTC)
    amounts = Decimal("0.2"), Decimal("0.05"), Decimal("0.3"), Decimal("1.5"), Decimal("0.5")
    try:
        for number in range(MODELS):
            await set_price(database, NewPrice(f"model-{number}", *amounts, valid_from=since))
        async with database.write() as connection:
            await connection.execute(text(statement), {"events": events})
        async with database.write() as connection:
            await connection.execute(text("ANALYZE"))
    finally:
        await database.close()
    return BenchLedger(settings)
