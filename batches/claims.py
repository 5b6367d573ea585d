"""Claims batches, and reads and writes what a process does with the batch it claimed.

Invariant: a batch is written only under the newest fence, so that a process that lost the batch
without noticing writes nothing.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from batches.records import CANCELLING, CLAIM, PART, STATE, BatchPart, BatchState, ClaimedBatch
from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.files import BatchPartRow, BatchRow, FileRow
from files.errors import ObjectMissing

BATCHES = table_of(BatchRow)
PARTS = table_of(BatchPartRow)


class Superseded(Exception):
    """Another process has claimed the batch; this one must stop working on it."""


async def due_batches(database: Database, per_account: int) -> Sequence[str]:
    """Return the ids of open batches, at most `per_account` of each account, oldest first.

    Batches to be cancelled come first: cancelling them frees a place.
    """
    rank = case((BatchRow.status == CANCELLING, 0), else_=1)
    turn = func.row_number().over(
        partition_by=BatchRow.account_id, order_by=(rank, BatchRow.id.asc())
    )
    ranked = select(BatchRow.id, turn.label("turn")).where(BatchRow.ended_at.is_(None)).subquery()
    query = (
        select(ranked.c.id).where(ranked.c.turn <= per_account).order_by(ranked.c.turn, ranked.c.id)
    )
    async with database.read() as connection:
        return (await connection.execute(query)).scalars().all()


async def claim_batch(database: Database, batch_id: str) -> ClaimedBatch | None:
    """Claim a batch under a new fence; None if it has ended."""
    statement = (
        update(BATCHES)
        .where(BatchRow.id == batch_id, BatchRow.ended_at.is_(None))
        .values(fence=BatchRow.fence + 1)
        .returning(*CLAIM)
    )
    async with database.write() as connection:
        row = (await connection.execute(statement)).one_or_none()
    return None if row is None else ClaimedBatch(*row)


async def read_state(database: Database, batch_id: str) -> BatchState:
    """Return a batch of any account."""
    async with database.read() as connection:
        return await state_in(connection, batch_id)


async def state_in(connection: AsyncConnection, batch_id: str) -> BatchState:
    """Return a batch of any account, as a transaction sees it."""
    query = select(*STATE).where(BatchRow.id == batch_id)
    return BatchState(*(await connection.execute(query)).one())


async def input_bytes(database: Database, batch_id: str) -> int:
    """Return the size in bytes of a batch's input file, even if the client has deleted it.

    Raises:
        ObjectMissing: the file no longer exists.
    """
    query = select(FileRow.bytes).join(BatchRow, BatchRow.input_file_id == FileRow.id)
    async with database.read() as connection:
        found = await connection.execute(query.where(BatchRow.id == batch_id))
        size = found.scalar_one_or_none()
    if size is None:
        raise ObjectMissing("The batch's input file no longer exists")
    return size


async def change_batch(
    connection: AsyncConnection, batch_id: str, fence: int, status: str, /, **values: Any
) -> bool:
    """Change columns of a batch that has this status.

    Returns:
        False if its status has changed: a client asked to cancel it.

    Raises:
        Superseded: the fence is not the newest.
    """
    mine = _claimed(batch_id, fence)
    statement = update(BATCHES).where(*mine, BatchRow.status == status).values(values)
    if (await connection.execute(statement)).rowcount:
        return True
    query = select(BatchRow.status).where(*mine)
    if (await connection.execute(query)).scalar_one_or_none() is None:
        raise Superseded(batch_id)
    return False


async def record_reached(
    connection: AsyncConnection, batch_id: str, fence: int, reached: int
) -> None:
    """Record that jobs may exist for all requests with an index lower than `reached`.

    Raises:
        Superseded: the fence is not the newest.
    """
    statement = update(BATCHES).where(*_claimed(batch_id, fence)).values(reached=reached)
    if not (await connection.execute(statement)).rowcount:
        raise Superseded(batch_id)


async def record_waiting(
    connection: AsyncConnection, batch_id: str, fence: int, waiting: str | None
) -> None:
    """Record what holds up a batch, or None.

    Raises:
        Superseded: the fence is not the newest.
    """
    statement = update(BATCHES).where(*_claimed(batch_id, fence)).values(waiting=waiting)
    if not (await connection.execute(statement)).rowcount:
        raise Superseded(batch_id)


async def write_part(
    connection: AsyncConnection, batch_id: str, fence: int, part: BatchPart, /, **values: Any
) -> None:
    """Add a part and change the batch's columns that count its results.

    Raises:
        Superseded: the fence is not the newest.
    """
    statement = update(BATCHES).where(*_claimed(batch_id, fence)).values(values)
    if not (await connection.execute(statement)).rowcount:
        raise Superseded(batch_id)
    # It may exist, with fewer results: an earlier commit succeeded and its answer was lost.
    same = (BatchPartRow.batch_id == batch_id, BatchPartRow.number == part.number)
    await connection.execute(delete(PARTS).where(*same))
    row = {
        "batch_id": batch_id,
        "number": part.number,
        "name": part.name,
        "output_bytes": part.output_bytes,
        "error_bytes": part.error_bytes,
    }
    await insert_missing(connection, PARTS, [row])


async def list_parts(database: Database, batch_id: str) -> list[BatchPart]:
    """Return a batch's parts in order."""
    query = (
        select(*PART).where(BatchPartRow.batch_id == batch_id).order_by(BatchPartRow.number.asc())
    )
    async with database.read() as connection:
        return [BatchPart(*row) for row in (await connection.execute(query)).all()]


async def delete_parts(connection: AsyncConnection, batch_id: str) -> None:
    """Delete the rows of a batch's parts."""
    await connection.execute(delete(PARTS).where(BatchPartRow.batch_id == batch_id))


def _claimed(batch_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that hold while this claim is the newest and the batch is open."""
    return BatchRow.id == batch_id, BatchRow.fence == fence, BatchRow.ended_at.is_(None)
