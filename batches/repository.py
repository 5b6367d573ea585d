"""Reads and writes batches for clients.

Invariant: an account sees only its own batches.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import func, select, update

from accounts.account_rows import lock_account
from batches.errors import BatchConflict, BatchMissing, TooManyBatches
from batches.records import CANCELLED, CANCELLING, IN_PROGRESS, STATE, VALIDATING, BatchState
from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.files import BatchRow
from core.ids import can_exist

BATCHES = table_of(BatchRow)
RETRY_AFTER_SECONDS = 30.0


async def add_batch(database: Database, values: dict[str, Any], max_open: int) -> None:
    """Add a batch; nothing happens if it exists already.

    Args:
        database: The database.
        values: The columns, from `new_batch`.
        max_open: How many open batches the account may have.

    Raises:
        TooManyBatches: the account has that many.
    """
    account = values["account_id"]
    count_open = (
        select(func.count())
        .select_from(BATCHES)
        .where(BatchRow.account_id == account, BatchRow.ended_at.is_(None))
    )
    async with database.write() as connection:
        await lock_account(connection, account)
        if (await connection.execute(count_open)).scalar_one() >= max_open:
            raise TooManyBatches(
                f"The account has {max_open} open batches, the most it may have. Try again when"
                " one has ended.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        # It exists if the same idempotency key was used twice at the same moment.
        await insert_missing(connection, BATCHES, [values])


def new_batch(
    batch_id: str,
    account: str,
    owner: str,
    endpoint: str,
    input_file_id: str,
    window: tuple[str, datetime],
    metadata: dict[str, str] | None,
    output_seconds: int | None,
    created: datetime,
) -> dict[str, Any]:
    """Return the columns of a new batch.

    Args:
        batch_id: The batch's id.
        account: The account that owns it.
        owner: The field of the caller cache that holds the creator's record.
        endpoint: The path that all requests are for.
        input_file_id: The file of requests.
        window: The completion window as the client gave it, and the time when it ends.
        metadata: The client's metadata.
        output_seconds: How long the result files are kept; None for the default.
        created: When it was created.
    """
    return {
        "id": batch_id,
        "account_id": account,
        "caller": owner,
        "endpoint": endpoint,
        "input_file_id": input_file_id,
        "completion_window": window[0],
        "expires_at": window[1],
        "metadata": None if metadata is None else orjson.dumps(metadata).decode(),
        "output_seconds": output_seconds,
        "status": VALIDATING,
        "created_at": created,
    }


async def find_batch(database: Database, batch_id: str, account: str) -> BatchState:
    """Return a batch.

    Raises:
        BatchMissing: unknown, or another account's.
    """
    if not can_exist(batch_id):
        raise _missing(batch_id)
    query = select(*STATE).where(BatchRow.id == batch_id, BatchRow.account_id == account)
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(batch_id)
    return BatchState(*row)


def _missing(batch_id: str) -> BatchMissing:
    return BatchMissing(f"Batch {batch_id!r} not found", param="batch_id")


async def batch_exists(database: Database, batch_id: str) -> bool:
    """Return whether a batch was added."""
    async with database.read() as connection:
        found = await connection.execute(select(BatchRow.id).where(BatchRow.id == batch_id))
        return found.one_or_none() is not None


async def list_batches(
    database: Database, account: str, *, limit: int, after: str | None
) -> list[BatchState]:
    """Return at most `limit` batches, newest first, that come after the batch `after`."""
    query = select(*STATE).where(BatchRow.account_id == account)
    if after is not None:
        query = query.where(BatchRow.id < after)
    query = query.order_by(BatchRow.id.desc()).limit(limit)
    async with database.read() as connection:
        return [BatchState(*row) for row in (await connection.execute(query)).all()]


async def request_cancel(database: Database, batch_id: str, account: str) -> BatchState:
    """Mark a batch to be cancelled; safe to repeat.

    Raises:
        BatchMissing: unknown, or another account's.
        BatchConflict: it can no longer be cancelled.
    """
    if not can_exist(batch_id):
        raise _missing(batch_id)
    statement = (
        update(BATCHES)
        .where(BatchRow.id == batch_id, BatchRow.account_id == account)
        .where(BatchRow.status.in_((VALIDATING, IN_PROGRESS)))
        .values(status=CANCELLING, cancelling_at=now())
    )
    async with database.write() as connection:
        await connection.execute(statement)
    batch = await find_batch(database, batch_id, account)
    if batch.status not in (CANCELLING, CANCELLED):
        raise BatchConflict(f"Batch {batch_id} is {batch.status} and cannot be cancelled")
    return batch


async def still_open(database: Database, batch_ids: Sequence[str]) -> set[str]:
    """Return which of these batches have not ended."""
    query = select(BatchRow.id).where(BatchRow.id.in_(batch_ids), BatchRow.ended_at.is_(None))
    async with database.read() as connection:
        return set((await connection.execute(query)).scalars())
