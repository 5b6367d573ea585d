"""The rows of batches.

Invariant: an account sees its own batches only. Work on a batch is written only under the newest
fence: whoever was taken for dead and is not finds out here, and has written nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.account_rows import lock_account
from batches.errors import BatchConflict, BatchMissing, TooManyBatches
from core.db.bulk_insert import insert_missing
from core.db.engine import Database
from core.db.tables.base import now, table_of
from core.db.tables.files import BatchPartRow, BatchRow, FileRow
from files.errors import ObjectMissing

BATCHES = table_of(BatchRow)
PARTS = table_of(BatchPartRow)
FILES = table_of(FileRow)
#: What clients are shown; `done` is large, and nobody's business.
SHOWN = [column for column in BATCHES.c if column.name not in ("done", "caller")]

VALIDATING, IN_PROGRESS, FINALIZING = "validating", "in_progress", "finalizing"
COMPLETED, FAILED, EXPIRED = "completed", "failed", "expired"
CANCELLING, CANCELLED = "cancelling", "cancelled"
RETRY_AFTER_SECONDS = 30.0


class Superseded(Exception):
    """Another process has taken the batch: whatever this one knows of it counts no more."""


async def add_batch(database: Database, values: dict[str, Any], most_open: int) -> None:
    """Accept a batch.

    Raises:
        TooManyBatches: the account has as many open ones as it may.
    """
    account = values["account_id"]
    open_ones = (
        select(func.count())
        .select_from(BATCHES)
        .where(BATCHES.c.account_id == account, BATCHES.c.ended_at.is_(None))
    )
    async with database.write() as connection:
        await lock_account(connection, account)
        if (await connection.execute(open_ones)).scalar_one() >= most_open:
            raise TooManyBatches(
                f"at most {most_open} batches may be open at once",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        # It is there when the same idempotency key is used twice at one moment.
        await insert_missing(connection, BATCHES, [values])


async def find_batch(database: Database, batch_id: str, account: str) -> Any:
    """Return a batch as it is shown.

    Raises:
        BatchMissing: unknown, or another account's.
    """
    query = select(*SHOWN).where(BATCHES.c.id == batch_id, BATCHES.c.account_id == account)
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise BatchMissing(f"no batch {batch_id!r}", param="batch_id")
    return row


async def exists(database: Database, batch_id: str) -> bool:
    """Return whether a batch was accepted."""
    async with database.read() as connection:
        found = await connection.execute(select(BATCHES.c.id).where(BATCHES.c.id == batch_id))
        return found.one_or_none() is not None


async def list_batches(
    database: Database, account: str, *, limit: int, after: str | None
) -> Sequence[Any]:
    """Return up to `limit` batches with ids before the given one, newest first."""
    query = select(*SHOWN).where(BATCHES.c.account_id == account)
    if after is not None:
        query = query.where(BATCHES.c.id < after)
    query = query.order_by(BATCHES.c.id.desc()).limit(limit)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def ask_to_cancel(database: Database, batch_id: str, account: str) -> Any:
    """Have a batch cancelled; repeating it changes nothing.

    Raises:
        BatchMissing: unknown, or another account's.
        BatchConflict: it is past being cancelled.
    """
    change = (
        update(BATCHES)
        .where(BATCHES.c.id == batch_id, BATCHES.c.account_id == account)
        .where(BATCHES.c.status.in_((VALIDATING, IN_PROGRESS)))
        .values(status=CANCELLING, cancelling_at=now())
    )
    async with database.write() as connection:
        await connection.execute(change)
    row = await find_batch(database, batch_id, account)
    if row.status not in (CANCELLING, CANCELLED):
        raise BatchConflict(f"batch {batch_id} is {row.status}: it cannot be cancelled any more")
    return row


# --- for the processes that work on batches -------------------------------------------------


async def open_batches(database: Database, per_account: int) -> Sequence[str]:
    """Return the batches whose turn it is: so many of each account, oldest first.

    What is to be cancelled comes before: it frees a place.
    """
    waits = case((BATCHES.c.status == CANCELLING, 0), else_=1)
    turn = func.row_number().over(partition_by=BATCHES.c.account_id, order_by=(waits, BATCHES.c.id))
    ranked = select(BATCHES.c.id, turn.label("turn")).where(BATCHES.c.ended_at.is_(None)).subquery()
    query = (
        select(ranked.c.id).where(ranked.c.turn <= per_account).order_by(ranked.c.turn, ranked.c.id)
    )
    async with database.read() as connection:
        return (await connection.execute(query)).scalars().all()


async def take(database: Database, batch_id: str) -> Any | None:
    """Take a batch under a new fence; None when it has ended."""
    change = (
        update(BATCHES)
        .where(BATCHES.c.id == batch_id, BATCHES.c.ended_at.is_(None))
        .values(fence=BATCHES.c.fence + 1)
        .returning(BATCHES)
    )
    async with database.write() as connection:
        return (await connection.execute(change)).one_or_none()


async def state_of(database: Database, batch_id: str) -> Any:
    """Return a batch as it is shown, whosever it is."""
    async with database.read() as connection:
        return await shown(connection, batch_id)


async def input_bytes(database: Database, batch_id: str) -> int:
    """Return the size of a batch's file, which clients may see no more.

    Raises:
        ObjectMissing: it is gone.
    """
    query = select(FILES.c.bytes).join(BATCHES, BATCHES.c.input_file_id == FILES.c.id)
    async with database.read() as connection:
        found = await connection.execute(query.where(BATCHES.c.id == batch_id))
        size: int | None = found.scalar_one_or_none()
    if size is None:
        raise ObjectMissing("the batch's file is gone")
    return size


async def change(
    connection: AsyncConnection, batch_id: str, fence: int, status: str, /, **values: Any
) -> bool:
    """Change a batch that has this status; False when a client has asked to cancel it meanwhile.

    Raises:
        Superseded: the fence is not the newest.
    """
    mine = (BATCHES.c.id == batch_id, BATCHES.c.fence == fence, BATCHES.c.ended_at.is_(None))
    statement = update(BATCHES).where(*mine, BATCHES.c.status == status).values(values)
    if (await connection.execute(statement)).rowcount:
        return True
    query = select(BATCHES.c.status).where(*mine)
    if (await connection.execute(query)).scalar_one_or_none() is None:
        raise Superseded(batch_id)
    return False


async def reach(connection: AsyncConnection, batch_id: str, fence: int, reached: int) -> None:
    """Write down that jobs of the requests before `reached` may exist.

    Raises:
        Superseded: the fence is not the newest.
    """
    mine = (BATCHES.c.id == batch_id, BATCHES.c.fence == fence, BATCHES.c.ended_at.is_(None))
    statement = update(BATCHES).where(*mine).values(reached=reached)
    if not (await connection.execute(statement)).rowcount:
        raise Superseded(batch_id)


async def shown(connection: AsyncConnection, batch_id: str) -> Any:
    """Return a batch as it is shown, whosever it is."""
    return (await connection.execute(select(*SHOWN).where(BATCHES.c.id == batch_id))).one()


async def write_part(
    connection: AsyncConnection, batch_id: str, fence: int, part: dict[str, Any], /, **values: Any
) -> None:
    """Count what a part holds as done.

    Raises:
        Superseded: the fence is not the newest.
    """
    mine = (BATCHES.c.id == batch_id, BATCHES.c.fence == fence, BATCHES.c.ended_at.is_(None))
    if not (await connection.execute(update(BATCHES).where(*mine).values(values))).rowcount:
        raise Superseded(batch_id)
    # It may be there: the answer to the commit was lost, and results have come in since.
    same = (PARTS.c.batch_id == batch_id, PARTS.c.number == part["number"])
    await connection.execute(delete(PARTS).where(*same))
    await insert_missing(connection, PARTS, [{"batch_id": batch_id, **part}])


async def parts_of(database: Database, batch_id: str) -> Sequence[Any]:
    """Return a batch's parts in order."""
    query = select(PARTS).where(PARTS.c.batch_id == batch_id).order_by(PARTS.c.number)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def forget_parts(connection: AsyncConnection, batch_id: str) -> None:
    """Delete the rows of a batch's parts."""
    await connection.execute(delete(PARTS).where(PARTS.c.batch_id == batch_id))


async def still_open(database: Database, batch_ids: Sequence[str]) -> set[str]:
    """Return which of these batches have not ended."""
    query = select(BATCHES.c.id).where(BATCHES.c.id.in_(batch_ids), BATCHES.c.ended_at.is_(None))
    async with database.read() as connection:
        return set((await connection.execute(query)).scalars())


def complaints_json(complaints: Sequence[dict[str, Any]]) -> str:
    """Return complaints as they are kept."""
    return orjson.dumps(complaints).decode()


def new_batch(
    batch_id: str,
    account: str,
    caller: str,
    endpoint: str,
    input_file_id: str,
    window: tuple[str, datetime],
    metadata: dict[str, str] | None,
    output_seconds: int | None,
    created: datetime,
) -> dict[str, Any]:
    """Return the columns of a batch that was just asked for."""
    return {
        "id": batch_id,
        "account_id": account,
        "caller": caller,
        "endpoint": endpoint,
        "input_file_id": input_file_id,
        "completion_window": window[0],
        "expires_at": window[1],
        "metadata": None if metadata is None else orjson.dumps(metadata).decode(),
        "output_seconds": output_seconds,
        "status": VALIDATING,
        "created_at": created,
    }
