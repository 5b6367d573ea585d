"""How attempts went, written down in SQL, and what follows for a delivery and its endpoint.

Invariant: a result is written together with its line of the log; a success counts whatever
happened meanwhile, a failure only where the delivery is still wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.engine import Database
from core.db.tables.base import now
from core.db.tables.webhooks import WebhookAttemptRow
from webhooks.deliveries import DELIVERIES, ENDPOINTS, ClaimedDelivery, disable
from webhooks.sender import SendOutcome

#: What a receiver answers that wants to hear nothing more.
GONE = 410


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt went, and what follows: the next one at `due_at`, or none."""

    taken: ClaimedDelivery
    outcome: SendOutcome
    at: datetime
    due_at: datetime | None


async def settle(
    database: Database, results: Sequence[AttemptResult], disable_after: timedelta
) -> Sequence[str]:
    """Write down results; returns for each why its endpoint was disabled over it, or ''.

    What was purged meanwhile has no log, and must not keep the others from having theirs.
    """
    ids = [one.taken.id for one in results]
    there = select(DELIVERIES.c.id).where(DELIVERIES.c.id.in_(ids))
    async with database.write() as connection:
        kept = set(await connection.scalars(there.with_for_update(read=True, key_share=True)))
        tries = [_attempt(one) for one in results if one.taken.id in kept]
        if tries:
            await connection.execute(insert(WebhookAttemptRow), tries)
        await _settle_deliveries(connection, results)
        # In one order: two processes must not wait for each other.
        ordered = sorted(results, key=lambda one: one.taken.target)
        why = {one.taken.id: await _judge(connection, one, disable_after) for one in ordered}
    return [why[one.taken.id] for one in results]


def _attempt(result: AttemptResult) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "delivery_id": result.taken.id,
        "at": result.at,
        "status": outcome.status,
        "milliseconds": outcome.milliseconds,
        "failure": outcome.failure,
    }


async def _settle_deliveries(connection: AsyncConnection, results: Sequence[AttemptResult]) -> None:
    done = [one.taken.id for one in results if one.outcome.taken]
    common = {"attempts": DELIVERIES.c.attempts + 1, "taken_until": None, "ticket_until": None}
    instant = now()
    if done:
        await connection.execute(
            update(DELIVERIES)
            .where(DELIVERIES.c.id.in_(done))
            .values(**common, state="delivered", due_at=None, failure="", done_at=instant)
        )
    failed = [
        {
            "one": one.taken.id,
            "next_state": "pending" if one.due_at else "failed",
            "next_due": one.due_at,
            "why": one.outcome.failure,
            "done": None if one.due_at else instant,
        }
        for one in results
        if not one.outcome.taken
    ]
    if failed:
        change = update(DELIVERIES).where(
            DELIVERIES.c.id == bindparam("one"), DELIVERIES.c.state == "pending"
        )
        values = {"state": "next_state", "due_at": "next_due", "failure": "why", "done_at": "done"}
        bound: dict[str, Any] = {name: bindparam(key) for name, key in values.items()}
        await connection.execute(change.values(**common, **bound), failed)


async def _judge(
    connection: AsyncConnection, result: AttemptResult, disable_after: timedelta
) -> str:
    """Note whether an endpoint works; one that is gone, or failed for too long, is disabled."""
    own = ENDPOINTS.c.id == result.taken.target
    if not result.taken.target:
        return ""
    if result.outcome.taken:
        failing = ENDPOINTS.c.failing_since.is_not(None)
        await connection.execute(update(ENDPOINTS).where(own, failing).values(failing_since=None))
        return ""
    since = func.coalesce(ENDPOINTS.c.failing_since, result.at)
    change = update(ENDPOINTS).where(own, ENDPOINTS.c.disabled_at.is_(None))
    row = (
        await connection.execute(
            change.values(failing_since=since).returning(ENDPOINTS.c.failing_since)
        )
    ).one_or_none()
    if row is None:
        return ""
    why = ""
    if result.outcome.status == GONE:
        why = "it answered 410: gone"
    elif result.at - row.failing_since >= disable_after:
        why = f"it took nothing for {disable_after.total_seconds() / 86_400:g} days"
    if why:
        await disable(connection, result.taken.target, why)
    return why
