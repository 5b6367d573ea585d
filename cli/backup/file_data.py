"""Copies the bytes of files and of parts of batches between the file store and a backup set."""

from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from cli.backup.backup_set import Manifest, SetWriter
from core.db.tables.files import FileRow
from files.errors import ObjectMissing
from files.object_store import ObjectStore
from files.repository import object_name

FOLDER = "files/"
PIECE_BYTES = 4 << 20


async def dump_files(
    connection: AsyncConnection, object_store: ObjectStore, target: SetWriter
) -> list[str]:
    """Copy every object; returns ids of files that were deleted before they could be copied."""
    copied: set[str] = set()
    async for page in object_store.listed(""):
        for item in page:
            if await _copy_out(object_store, item.name, item.size, target):
                copied.add(item.name)
    rows = await connection.scalars(select(FileRow.id).where(FileRow.deleted_at.is_(None)))
    return [file_id for file_id in rows if object_name(file_id) not in copied]


async def _copy_out(object_store: ObjectStore, name: str, size: int, target: SetWriter) -> bool:
    part = FOLDER + name
    try:
        with target.path(part).open("wb") as file:
            async for piece in object_store.pieces(name, size, PIECE_BYTES):
                file.write(piece)
    except ObjectMissing:
        (target.folder / part).unlink()
        return False
    target.add(part, 1)
    return True


async def load_files(object_store: ObjectStore, folder: Path, manifest: Manifest) -> int:
    """Write every object into the store; returns how many."""
    names = [part.name for part in manifest.parts if part.name.startswith(FOLDER)]
    for name in names:
        await object_store.put(name.removeprefix(FOLDER), _pieces(folder / name))
    return len(names)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def has_files(object_store: ObjectStore) -> bool:
    """Return whether the store has an object."""
    async for page in object_store.listed(""):
        if page:
            return True
    return False


async def delete_files(object_store: ObjectStore) -> None:
    """Delete every object."""
    async for page in object_store.listed(""):
        await object_store.delete([item.name for item in page])
