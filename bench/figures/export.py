"""Export: seconds that `penstock bills export --format csv` takes for five million events."""

import asyncio
import json
import tempfile

from bench.figure import Figure
from bench.loads.billing_month import (
    EVENTS,
    MONTH,
    SQLITE_EVENTS,
    BenchLedger,
    BenchRun,
    on_postgresql,
    on_sqlite,
)

MUST_SECONDS = 60.0
AIM_SECONDS = 40.0
MUST_MIB = 300


async def measure() -> Figure:
    """Close and export a month on PostgreSQL and a smaller one on SQLite."""
    async with on_postgresql() as ledger:
        run, size = await asyncio.to_thread(_export, ledger, EVENTS)
    async with on_sqlite() as ledger:
        small, _ = await asyncio.to_thread(_export, ledger, SQLITE_EVENTS)
    if run.peak_mib > MUST_MIB:
        raise RuntimeError(f"the export took {run.peak_mib:.0f} MiB, more than {MUST_MIB}")
    return Figure(
        "export",
        round(run.seconds, 1),
        "s",
        must=MUST_SECONDS,
        aim=AIM_SECONDS,
        higher=False,
        compared_with="nothing: an absolute figure, with PostgreSQL on the same cores",
        details={
            "events": EVENTS,
            "csv_mib": round(size / 2**20),
            "peak_mib": round(run.peak_mib),
            "peak_mib_must": MUST_MIB,
            "sqlite_events": SQLITE_EVENTS,
            "sqlite_seconds": round(small.seconds, 1),
            "sqlite_peak_mib": round(small.peak_mib),
        },
    )


def _export(ledger: BenchLedger, events: int) -> tuple[BenchRun, int]:
    ledger.penstock("bills", "close", MONTH)
    with tempfile.TemporaryDirectory() as out:
        arguments = ("--month", MONTH, "--format", "csv", "--out", out, "--json")
        run = ledger.penstock("bills", "export", *arguments)
    files = {file["name"]: file for file in json.loads(run.output)["files"]}
    if files["usage.csv"]["rows"] != events:
        raise RuntimeError(f"{files['usage.csv']['rows']} events were exported, not {events}")
    return run, files["usage.csv"]["size"]
