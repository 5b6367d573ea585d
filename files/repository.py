"""Reads and writes the rows of files.

Invariant: an account sees only its own files, without deleted and expired ones. A row is added
after its bytes are stored; stored bytes without a row are an orphan.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.row_mapping import columns_of
from core.db.tables.base import now, table_of
from core.db.tables.files import FileRow
from core.ids import can_exist
from files.errors import FileMissing, QuotaReached
from wire.views.files import FileRecord

FILES = table_of(FileRow)
SHOWN = columns_of(FILES, FileRecord)

Order = Literal["asc", "desc"]


def object_name(file_id: str) -> str:
    """Return the name of a file's bytes in the object store."""
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
    """Return the columns of a new file.

    Args:
        file_id: The file's id.
        account: The account that owns it.
        purpose: OpenAI's purpose: `batch`, `batch_output` or `batch_error`.
        filename: The cleaned name.
        size: Its length in bytes.
        sha256: The hash of its bytes, in hexadecimal.
        created: When it was stored.
        expires: When it is deleted; None if never.
    """
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


async def stored_bytes(connection: AsyncConnection, account: str) -> int:
    """Return how many bytes of files an account keeps."""
    query = select(func.coalesce(func.sum(FileRow.bytes), 0)).where(*_visible_to(account))
    return int((await connection.execute(query)).scalar_one())


async def check_quota(database: Database, account: str, quota: int) -> None:
    """Refuse an upload of an account whose quota is used up.

    Args:
        database: The database.
        account: The account that uploads.
        quota: How many bytes of files it may keep.

    Raises:
        QuotaReached: files must be deleted first.
    """
    async with database.read() as connection:
        if await stored_bytes(connection, account) >= quota:
            raise QuotaReached(
                f"The account's quota of {quota} bytes of files is used up. Delete files first."
            )


async def add_files(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Add files; rows that exist already stay as they are."""
    await insert_missing(connection, FILES, rows)


async def find_file(database: Database, file_id: str, account: str) -> FileRecord:
    """Return a file.

    Raises:
        FileMissing: unknown, another account's, deleted or expired.
    """
    if not can_exist(file_id):
        raise _missing(file_id)
    query = select(*SHOWN).where(FileRow.id == file_id, *_visible_to(account))
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _missing(file_id)
    return FileRecord(*row)


async def list_files(
    database: Database,
    account: str,
    *,
    limit: int,
    after: str | None,
    order: Order,
    purpose: str | None,
) -> list[FileRecord]:
    """Return at most `limit` files that come after the file `after` in this order of ids."""
    query = select(*SHOWN).where(*_visible_to(account)).limit(limit)
    if after is not None:
        query = query.where(FileRow.id > after if order == "asc" else FileRow.id < after)
    if purpose is not None:
        query = query.where(FileRow.purpose == purpose)
    query = query.order_by(FileRow.id.asc() if order == "asc" else FileRow.id.desc())
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return [FileRecord(*row) for row in rows]


async def hide_file(database: Database, file_id: str, account: str) -> None:
    """Mark a file as deleted; its bytes stay while an open batch reads them.

    Raises:
        FileMissing: as `find_file`.
    """
    if not can_exist(file_id):
        raise _missing(file_id)
    change = update(FILES).where(FileRow.id == file_id, *_visible_to(account))
    async with database.write() as connection:
        if not (await connection.execute(change.values(deleted_at=now()))).rowcount:
            raise _missing(file_id)


async def removable(
    database: Database, in_use: Select[str], limit: int, file_id: str | None = None
) -> Sequence[str]:
    """Return ids of deleted or expired files that may be removed for good.

    Args:
        database: The database.
        in_use: Selects the ids of files that must stay.
        limit: How many ids to return at most.
        file_id: If given, only this file is looked at.
    """
    query = (
        select(FileRow.id)
        .where(or_(FileRow.deleted_at.is_not(None), FileRow.expires_at <= now()))
        .where(FileRow.id.not_in(in_use))
        .limit(limit)
    )
    if file_id is not None:
        query = query.where(FileRow.id == file_id)
    async with database.read() as connection:
        return (await connection.execute(query)).scalars().all()


async def existing(database: Database, file_ids: Sequence[str]) -> set[str]:
    """Return which of these files have a row."""
    query = select(FileRow.id).where(FileRow.id.in_(file_ids))
    async with database.read() as connection:
        return set((await connection.execute(query)).scalars())


async def delete_rows(database: Database, file_ids: Sequence[str]) -> None:
    """Delete the rows of files whose bytes were deleted."""
    async with database.write() as connection:
        await connection.execute(delete(FILES).where(FileRow.id.in_(file_ids)))


def _missing(file_id: str) -> FileMissing:
    return FileMissing(f"File {file_id!r} not found", param="file_id")


def _visible_to(account: str) -> tuple[Any, ...]:
    unexpired = or_(FileRow.expires_at.is_(None), FileRow.expires_at > now())
    return (and_(FileRow.account_id == account, FileRow.deleted_at.is_(None), unexpired),)
