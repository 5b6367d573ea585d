"""Close: seconds that `penstock bills close` takes for five million usage events."""

import asyncio
import json

from bench.figure import Figure
from bench.loads.billing_month import (
    EVENTS,
    MONTH,
    SQLITE_EVENTS,
    BenchRun,
    on_postgresql,
    on_sqlite,
)

MUST_SECONDS = 60.0
AIM_SECONDS = 20.0


async def measure() -> Figure:
    """Close a month on PostgreSQL and a smaller one on SQLite."""
    async with on_postgresql() as ledger:
        run = await asyncio.to_thread(ledger.penstock, "bills", "close", MONTH, "--json")
    async with on_sqlite() as ledger:
        small = await asyncio.to_thread(ledger.penstock, "bills", "close", MONTH, "--json")
    return Figure(
        "close",
        round(run.seconds, 1),
        "s",
        must=MUST_SECONDS,
        aim=AIM_SECONDS,
        higher=False,
        compared_with="nothing: an absolute figure, with PostgreSQL on the same cores",
        details={
            "events": EVENTS,
            "invoices": _invoices(run),
            "peak_mib": round(run.peak_mib),
            "sqlite_events": SQLITE_EVENTS,
            "sqlite_seconds": round(small.seconds, 1),
        },
    )


def _invoices(run: BenchRun) -> int:
    return len(json.loads(run.output))
