"""Checks that the triggers which protect final rows exist and are enabled."""

from collections.abc import Iterator

from sqlalchemy import text

from billing.reconcile.findings import FindingKind, Findings
from core.db.database import Database

#: The events that each table's triggers refuse; `update_job_id` protects all columns of usage,
#: `update_price_version_id` those of the price.
REFUSED_EVENTS = dict.fromkeys(
    ("price_versions", "prices", "gpu_rates", "adjustments", "audit_log"), ("update", "delete")
) | {
    "usage_events": ("update_job_id", "update_price_version_id", "delete"),
    "invoices": ("update", "delete"),
    "invoice_lines": ("insert", "update", "delete"),
}

TRIGGERS = {
    True: "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    False: "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')",
}


def guards(*, is_sqlite: bool) -> Iterator[tuple[str, str]]:
    """Yield each protected table with the name of each of its triggers."""
    for table, events in REFUSED_EVENTS.items():
        for event in events if is_sqlite else (*events, "truncate"):
            yield table, f"keep_{table}_{event}"


async def check_guards(database: Database, findings: Findings) -> None:
    """Note each trigger that is missing or disabled."""
    async with database.read() as connection:
        names = set(await connection.scalars(text(TRIGGERS[database.is_sqlite])))
    for table, name in guards(is_sqlite=database.is_sqlite):
        findings.count("guards")
        if name not in names:
            findings.add(FindingKind.GUARD, table, "trigger", name, None)
