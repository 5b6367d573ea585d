"""Says what a batch waits for: in its status object, and once a month in an event.

Invariant: column and event are written in one transaction, by the process that has the batch.
"""

import time

import orjson

from batches import claims
from batches.records import ClaimedBatch
from billing.months import month_of
from core.db.database import Database
from core.db.tables.base import now
from core.errors import BudgetExceeded
from webhooks.events import add_event
from wire.views.batches import batch_object


class WaitingNotice:
    """Whether one batch waits for its budget, and what clients were told of it."""

    def __init__(self, batch: ClaimedBatch) -> None:
        self._batch = batch
        self._cause: BudgetExceeded | None = None
        self._told = batch.waiting is not None

    def refused(self, cause: BudgetExceeded) -> None:
        """Note that a request does not fit the budget."""
        self._cause = self._cause or cause

    def accepted(self) -> None:
        """Note that a request was accepted."""
        self._cause = None

    async def tell(self, database: Database) -> None:
        """Write what has changed since the last call.

        Raises:
            Superseded: another process has claimed the batch.
            DatabaseUnavailable: try again later.
        """
        cause = self._cause
        if (cause is not None) == self._told:
            return
        batch = self._batch
        async with database.write() as connection:
            text = None if cause is None else _as_json(cause)
            await claims.record_waiting(connection, batch.id, batch.fence, text)
            if cause is not None:
                shown = batch_object(await claims.state_in(connection, batch.id))
                event_id = f"evt_{batch.id}_waiting_{month_of(now())}"
                await add_event(
                    connection, batch.account_id, "batch.waiting", shown, event_id=event_id
                )
        self._told = cause is not None


def _as_json(cause: BudgetExceeded) -> str:
    code = cause.code.replace("-", "_")
    since = int(time.time())
    return orjson.dumps({"code": code, "message": cause.message, "since": since}).decode()
