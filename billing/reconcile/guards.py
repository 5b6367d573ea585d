"""Checks that the database still refuses to change what is settled."""

from sqlalchemy import text

from billing.database import Database
from billing.reconcile.findings import Findings, Kind

#: Tables whose rows a trigger keeps from being changed, and from being deleted.
KEPT = ("price_versions", "prices", "usage_events", "adjustments", "invoices", "invoice_lines")

TRIGGERS = {
    True: "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    False: "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')",
}


async def check_guards(database: Database, findings: Findings) -> None:
    """Note each table whose triggers are gone."""
    async with database.read() as connection:
        names = set(await connection.scalars(text(TRIGGERS[database.is_sqlite])))
    for table in KEPT:
        for verb in ("update", "delete"):
            name = f"keep_{table}_{verb}"
            findings.count("guards")
            if not any(found.startswith(name) for found in names):
                findings.add(Kind.GUARD, table, "trigger", name, None)
