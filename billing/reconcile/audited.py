"""Compares corrections and closes with the audit log, which has an entry of each one.

Invariant: an entry is written in the transaction of what it reports, so that neither exists
without the other.
"""

from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.invoices.invoices import CORRECTED, INVOICES
from billing.money import plain
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.snapshot import snapshot
from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from core.db.tables.base import table_of
from core.db.tables.invoices import AdjustmentRow, ClosedMonthRow

ENTRIES = table_of(AuditEntryRow)
ADJUSTMENTS = table_of(AdjustmentRow)


async def check_audited(database: Database, month: str, findings: Findings) -> None:
    """Note each adjustment, credit note and close that differs from its entry, or lacks it."""
    async with snapshot(database) as connection:
        _compare("adjustment", await _adjustments(connection, month), findings)
        _compare("credit note", await _credit_notes(connection, month), findings)
        closed = select(ClosedMonthRow.month).where(ClosedMonthRow.month == month)
        # A month that was closed with a later one has no entry of its own.
        entry = select(ENTRIES.c.id).where(ENTRIES.c.action == "month_closed")
        known = await connection.scalar(entry.where(ENTRIES.c.target >= month).limit(1))
        if await connection.scalar(closed) is not None and known is None:
            findings.add(FindingKind.AUDIT, month, "close", "an entry in the audit log", None)


Rows = dict[str, dict[str, Any]]


def _compare(what: str, both: tuple[Rows, Rows], findings: Findings) -> None:
    rows, entries = both
    findings.count(f"{what}s", len(rows))
    for subject, row in rows.items():
        entry = entries.get(subject)
        if entry is None:
            findings.add(FindingKind.AUDIT, subject, what, "an entry in the audit log", None)
            continue
        for name, value in row.items():
            # Older entries do not have every field.
            findings.differ(
                FindingKind.AUDIT, subject, f"{what} {name}", entry.get(name, value), value
            )
    for subject in entries.keys() - rows.keys():
        findings.add(FindingKind.AUDIT, subject, what, f"a row with {entries[subject]}", None)


async def _adjustments(connection: AsyncConnection, month: str) -> tuple[Rows, Rows]:
    row = ADJUSTMENTS.c
    query = select(row.id, row.account_id, row.month, row.amount, row.currency)
    rows = {
        adjustment_id: {
            "account": account,
            "month": of_month,
            "amount": plain(amount),
            "currency": currency,
        }
        for adjustment_id, account, of_month, amount, currency in await connection.execute(
            query.where(row.month == month)
        )
    }
    entries = {
        target: details | {"account": account}
        for target, account, details in await _entries(connection, "adjusted")
        if target in rows or details.get("month") == month
    }
    return rows, entries


async def _credit_notes(connection: AsyncConnection, month: str) -> tuple[Rows, Rows]:
    """Return the credit notes that correct invoices of a month, whenever they were issued."""
    query = (
        select(INVOICES.c.number, CORRECTED.c.number, INVOICES.c.total)
        .outerjoin_from(INVOICES, CORRECTED, CORRECTED.c.id == INVOICES.c.corrects_id)
        .where(INVOICES.c.kind == "credit_note", INVOICES.c.number.startswith(f"CN-{month}-"))
    )
    rows = {
        number: {"credits": corrects, "amount": plain(-total)}
        for number, corrects, total in await connection.execute(query)
    }
    of_month = ENTRIES.c.target.startswith(f"CN-{month}-")
    found = await _entries(connection, "credited", of_month)
    return rows, {target: details for target, _, details in found}


async def _entries(
    connection: AsyncConnection, action: str, *where: ColumnElement[bool]
) -> list[tuple[str, str | None, dict[str, Any]]]:
    query = select(ENTRIES.c.target, ENTRIES.c.account_id, ENTRIES.c.details)
    found = await connection.execute(query.where(ENTRIES.c.action == action, *where))
    return [(target, account, details) for target, account, details in found]
