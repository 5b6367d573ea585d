"""Stores the results of attempts in SQL, and updates the delivery and its endpoint.

Invariant: a result and its log entry are written together. A success always counts; a failure only
while the delivery is still pending.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.database import Database
from core.db.tables.base import now
from core.db.tables.webhooks import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from webhooks.deliveries import DELIVERIES, ClaimedDelivery, disable
from webhooks.sender import SendOutcome

#: The status by which a receiver asks for no more deliveries (Standard Webhooks 1.0).
GONE = 410


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome of an attempt, and when the next one is due; None if there is none."""

    delivery: ClaimedDelivery
    outcome: SendOutcome
    at: datetime
    due_at: datetime | None


async def record_results(
    database: Database, results: Sequence[AttemptResult], disable_after: timedelta
) -> Sequence[str]:
    """Store results in one transaction.

    A delivery that was purged in the meantime gets no log entry, and the others get theirs.

    Args:
        database: where deliveries are.
        results: one result per delivery.
        disable_after: how long an endpoint may fail before it is disabled.

    Returns:
        For each result why its endpoint was disabled, or ''.

    Raises:
        DatabaseUnavailable: nothing was stored.
    """
    ids = [result.delivery.id for result in results]
    existing = select(WebhookDeliveryRow.id).where(WebhookDeliveryRow.id.in_(ids))
    async with database.write() as connection:
        kept = set(await connection.scalars(existing.with_for_update(read=True, key_share=True)))
        attempts = [_attempt(result) for result in results if result.delivery.id in kept]
        if attempts:
            await connection.execute(insert(WebhookAttemptRow), attempts)
        await _update_deliveries(connection, results)
        # Endpoints are updated in one order, so that two processes cannot deadlock.
        ordered = sorted(results, key=lambda result: result.delivery.target)
        reasons = {
            result.delivery.id: await _update_endpoint(connection, result, disable_after)
            for result in ordered
        }
    return [reasons[result.delivery.id] for result in results]


def _attempt(result: AttemptResult) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "delivery_id": result.delivery.id,
        "at": result.at,
        "status": outcome.status,
        "milliseconds": outcome.milliseconds,
        "failure": outcome.failure,
    }


async def _update_deliveries(connection: AsyncConnection, results: Sequence[AttemptResult]) -> None:
    done = [result.delivery.id for result in results if result.outcome.accepted]
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
            "delivery": result.delivery.id,
            "next_state": "pending" if result.due_at else "failed",
            "next_due": result.due_at,
            "reason": result.outcome.failure,
            "done": None if result.due_at else instant,
        }
        for result in results
        if not result.outcome.accepted
    ]
    if failed:
        change = update(DELIVERIES).where(
            DELIVERIES.c.id == bindparam("delivery"), DELIVERIES.c.state == "pending"
        )
        values = {
            "state": "next_state",
            "due_at": "next_due",
            "failure": "reason",
            "done_at": "done",
        }
        bound: dict[str, Any] = {name: bindparam(key) for name, key in values.items()}
        await connection.execute(change.values(**common, **bound), failed)


async def _update_endpoint(
    connection: AsyncConnection, result: AttemptResult, disable_after: timedelta
) -> str:
    """Note since when an endpoint fails; disable it if it is gone or fails for too long."""
    target = result.delivery.target
    if not target:
        return ""
    endpoint = WebhookEndpointRow
    own = endpoint.id == target
    if result.outcome.accepted:
        failing = endpoint.failing_since.is_not(None)
        await connection.execute(update(endpoint).where(own, failing).values(failing_since=None))
        return ""
    since = func.coalesce(endpoint.failing_since, result.at)
    change = update(endpoint).where(own, endpoint.disabled_at.is_(None))
    failing_since = await connection.scalar(
        change.values(failing_since=since).returning(endpoint.failing_since)
    )
    if failing_since is None:  # the endpoint was removed, or is disabled already
        return ""
    reason = ""
    if result.outcome.status == GONE:
        reason = "the endpoint answered 410 Gone"
    elif result.at - failing_since >= disable_after:
        reason = f"no delivery succeeded for {disable_after.total_seconds() / 86_400:g} days"
    if reason:
        await disable(connection, target, reason)
    return reason
