"""Checks that the triggers which protect final rows and keep the spending are what they were.

A trigger is compared by its whole definition, so one that was emptied under its name is found.
"""

import re

from sqlalchemy import text

from billing.reconcile.findings import FindingKind, Findings
from core.db.database import Database
from migrations.triggers_in_force import triggers_in_force

#: Name and definition of each enabled trigger; PostgreSQL's function body follows its definition.
TRIGGERS = {
    True: "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
    False: (
        "SELECT t.tgname, pg_get_triggerdef(t.oid) || p.prosrc FROM pg_trigger t"
        " JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')"
    ),
}

#: PostgreSQL writes a table with its schema.
SCHEMA = re.compile(r'( ON )(?:\w+|"[^"]+")\.')


async def check_guards(database: Database, findings: Findings) -> None:
    """Note each trigger that is missing, disabled or changed."""
    found = await trigger_definitions(database)
    for trigger in triggers_in_force():
        expected = trigger.definition(is_sqlite=database.is_sqlite)
        if expected is None:
            continue
        findings.count("guards")
        if trigger.name not in found:
            findings.add(FindingKind.GUARD, trigger.table, "trigger", trigger.name, None)
        elif found[trigger.name] != expected:
            what = f"trigger {trigger.name}"
            findings.add(FindingKind.GUARD, trigger.table, what, expected, found[trigger.name])


async def trigger_definitions(database: Database) -> dict[str, str]:
    """Return the definition of each enabled trigger by its name."""
    async with database.read() as connection:
        rows = await connection.execute(text(TRIGGERS[database.is_sqlite]))
        return {name: SCHEMA.sub(r"\1", definition, count=1) for name, definition in rows}
