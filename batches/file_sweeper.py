"""Deletes the bytes of files nobody sees any more, and what a killed process left in the store.

Invariant: bytes go before their row, so that none are forgotten; what belongs to nothing is
deleted only once it is so old that nobody can be about to say that it does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from batches.repository import still_open
from billing.errors import DatabaseUnavailable
from core.db.engine import Database
from core.db.tables.base import now
from core.settings.batches import FileSettings
from files import repository
from files.object_store import ListedObject, ObjectStore
from wire.errors import FilesUnavailable, StorageFull

log = structlog.get_logger()

AT_ONCE = 500
#: Orphans are rare, and looking for them lists the whole store.
ORPHANS_EVERY = 30

Needed = Callable[[Database, Sequence[str]], Awaitable[set[str]]]

#: Folder -> which of its second names are needed: files with a row, parts of open batches.
FOLDERS: dict[str, Needed] = {"files": repository.known, "batches": still_open}


async def keep_swept(database: Database, objects: ObjectStore, settings: FileSettings) -> None:
    """Sweep until cancelled."""
    turn = 0
    while True:
        try:
            while found := await repository.unneeded(database, AT_ONCE):
                await drop(database, objects, found)
            if turn % ORPHANS_EVERY == 0:
                await sweep_orphans(database, objects, settings.orphan_seconds)
        except (DatabaseUnavailable, FilesUnavailable, StorageFull) as error:
            log.warning("files_not_swept", missing=error.code)
        turn += 1
        await asyncio.sleep(settings.sweep_seconds)


async def drop(database: Database, objects: ObjectStore, file_ids: Sequence[str]) -> None:
    """Delete files for good."""
    if file_ids:
        await objects.delete([repository.object_name(file_id) for file_id in file_ids])
        await repository.forget(database, file_ids)
        log.info("files_deleted", files=len(file_ids))


async def sweep_orphans(database: Database, objects: ObjectStore, seconds: float) -> int:
    """Delete what lies in the store and belongs to nothing; returns how many objects."""
    before = now() - timedelta(seconds=seconds)
    deleted = 0
    for folder, needed in FOLDERS.items():
        async for listed in objects.listed(folder):
            old = [one for one in listed if one.modified < before]
            deleted += await _delete_unneeded(database, objects, old, needed)
    await objects.forget_unfinished(seconds)
    return deleted


async def _delete_unneeded(
    database: Database, objects: ObjectStore, old: Sequence[ListedObject], needed: Needed
) -> int:
    if not old:
        return 0
    owners = {one.name: one.name.split("/")[1] for one in old}
    kept = await needed(database, sorted(set(owners.values())))
    orphans = [name for name, owner in owners.items() if owner not in kept]
    await objects.delete(orphans)
    if orphans:
        log.warning("orphans_deleted", objects=len(orphans))
    return len(orphans)
