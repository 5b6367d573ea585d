"""The end of the demo: prints the usage and costs of its jobs and exports the current month."""

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import func, select

from billing.exports.content import ExportRequest
from billing.exports.export_folder import export_month
from billing.exports.formats import Format
from billing.months import month_of
from cli.local.demo import line, title
from cli.terminal.failures import Failure
from core.db.database import Database
from core.db.tables.usage import UsageEventRow
from core.errors import PipelineError
from core.settings.tree import Settings

FORMATS = (Format.CSV, Format.PDF)
LEDGER_SECONDS = 30.0
POLL_SECONDS = 0.1


async def bill_demo(
    settings: Settings, folder: Path, jobs: list[dict[str, Any]], console: Console
) -> None:
    """Print the jobs' costs, wait until the ledger has recorded them, and export the month.

    Raises:
        Failure: the ledger did not record them, or the files could not be written.
    """
    console.print()
    title(console, "bill", "what both jobs used and cost")
    _print_costs(jobs, console)
    console.print()
    month = month_of(datetime.now(UTC))
    title(console, "export", f"the bills of {month} so far")
    database = Database(settings.database, "demo")
    try:
        await _until_recorded(database, [job["id"] for job in jobs])
        for as_format in FORMATS:
            words = f"--month {month} --format {as_format} --preliminary --out {folder}"
            line(console, (f"penstock bills export {words}", "dim"))
            wanted = ExportRequest(month, preliminary=True)
            exported = await export_month(
                database, wanted, as_format, folder, settings.seller, actor="penstock up"
            )
            for file in exported.files:
                line(console, f"{exported.folder / file.name}  {file.size:,} bytes")
    except PipelineError as error:
        raise Failure("the month could not be exported", error.message) from None
    finally:
        await database.close()
    line(console, f"Once {month} is over: penstock bills close {month}")


def _print_costs(jobs: list[dict[str, Any]], console: Console) -> None:
    """Print each job's cost and their sum; a model may have no price yet."""
    costs = [job["cost"] for job in jobs if job["cost"]]
    for job in jobs:
        usage, cost = job["usage"], job["cost"]
        tokens = f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out"
        price = f"{cost['currency']} {cost['total']}" if cost else job["cost_note"]
        line(console, f"{job['id']}  {tokens}: ", (price, "green"))
    if len(costs) == len(jobs):
        total = sum((Decimal(cost["total"]) for cost in costs), Decimal(0))
        together = f"{costs[0]['currency']} {total:f}"
        line(console, "together ", (together, "green"), ", as the ledger says")


async def _until_recorded(database: Database, job_ids: list[str]) -> None:
    """Wait until the ledger process has recorded the jobs.

    Raises:
        Failure: it has not, after `LEDGER_SECONDS`.
    """
    query = select(func.count()).where(UsageEventRow.job_id.in_(job_ids))
    deadline = time.monotonic() + LEDGER_SECONDS
    while True:
        async with database.read() as connection:
            if await connection.scalar(query) == len(job_ids):
                return
        if time.monotonic() > deadline:
            raise Failure("the ledger did not record the demo's jobs", "its log says why")
        await asyncio.sleep(POLL_SECONDS)
