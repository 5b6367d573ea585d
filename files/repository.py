"""The rows of files.

Invariant: an account sees its own files only, and neither deleted nor expired ones. A row is there
only once the bytes are; what has bytes and no row is an orphan.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.bulk_insert import insert_missing
from core.db.engine import Database
from core.db.tables.base import now, table_of
from core.db.tables.files import BatchRow, FileRow
from files.errors import FileMissing, QuotaReached

FILES = table_of(FileRow)
BATCHES = table_of(BatchRow)

Order = Literal["asc", "desc"]


def object_name(file_id: str) -> str:
    """Return how a file's bytes are named in the store."""
    return f"files/{file_id}"


def new_row(
    file_id: str,
    account: str,
    purpose: str,
    filename: str,
    size: int,
    sha256: str,
    created: datetime,
    expires: datetime | None,
) -> dict[str, Any]:
    """Return the columns of a file."""
    return {
        "id": file_id,
        "account_id": account,
        "purpose": purpose,
        "filename": filename,
        "bytes": size,
        "sha256": sha256,
        "created_at": created,
        "expires_at": expires,
        "deleted_at": None,
    }


async def kept_bytes(connection: AsyncConnection, account: str) -> int:
    """Return how much an account keeps."""
    query = select(func.coalesce(func.sum(FILES.c.bytes), 0)).where(*_seen_by(account))
    return int((await connection.execute(query)).scalar_one())


async def check_quota(database: Database, account: str, quota: int) -> None:
    """Refuse an upload of an account that keeps as much as it may.

    Raises:
        QuotaReached: files must be deleted first.
    """
    async with database.read() as connection:
        if await kept_bytes(connection, account) >= quota:
            raise QuotaReached(f"at most {quota} bytes of files may be kept: delete some first")


async def add_files(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Make files known; those that are already stay as they are."""
    await insert_missing(connection, FILES, rows)


async def find_file(database: Database, file_id: str, account: str) -> Any:
    """Return a file's row.

    Raises:
        FileMissing: unknown, another account's, deleted or expired.
    """
    query = select(FILES).where(FILES.c.id == file_id, *_seen_by(account))
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise FileMissing(f"no file {file_id!r}", param="file_id")
    return row


async def list_files(
    database: Database,
    account: str,
    *,
    limit: int,
    after: str | None,
    order: Order,
    purpose: str | None,
) -> Sequence[Any]:
    """Return up to `limit` files after the given one."""
    query = select(FILES).where(*_seen_by(account)).limit(limit)
    if after is not None:
        query = query.where(FILES.c.id > after if order == "asc" else FILES.c.id < after)
    if purpose is not None:
        query = query.where(FILES.c.purpose == purpose)
    query = query.order_by(FILES.c.id.asc() if order == "asc" else FILES.c.id.desc())
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def hide_file(database: Database, file_id: str, account: str) -> None:
    """Take a file from its account; its bytes stay for as long as an open batch reads them.

    Raises:
        FileMissing: as `find_file`.
    """
    change = update(FILES).where(FILES.c.id == file_id, *_seen_by(account)).values(deleted_at=now())
    async with database.write() as connection:
        if not (await connection.execute(change)).rowcount:
            raise FileMissing(f"no file {file_id!r}", param="file_id")


async def unneeded(database: Database, limit: int, file_id: str | None = None) -> Sequence[str]:
    """Return files that nobody sees and no open batch reads; only the given one, if it is so."""
    instant = now()
    reading = select(BATCHES.c.input_file_id).where(BATCHES.c.ended_at.is_(None))
    query = (
        select(FILES.c.id)
        .where(or_(FILES.c.deleted_at.is_not(None), FILES.c.expires_at <= instant))
        .where(FILES.c.id.not_in(reading))
        .limit(limit)
    )
    if file_id is not None:
        query = query.where(FILES.c.id == file_id)
    async with database.read() as connection:
        return (await connection.execute(query)).scalars().all()


async def known(database: Database, file_ids: Sequence[str]) -> set[str]:
    """Return which of these files have a row."""
    query = select(FILES.c.id).where(FILES.c.id.in_(file_ids))
    async with database.read() as connection:
        return set((await connection.execute(query)).scalars())


async def forget(database: Database, file_ids: Sequence[str]) -> None:
    """Delete rows, once the bytes are gone."""
    async with database.write() as connection:
        await connection.execute(delete(FILES).where(FILES.c.id.in_(file_ids)))


def _seen_by(account: str) -> tuple[Any, ...]:
    unexpired = or_(FILES.c.expires_at.is_(None), FILES.c.expires_at > now())
    return (and_(FILES.c.account_id == account, FILES.c.deleted_at.is_(None), unexpired),)
