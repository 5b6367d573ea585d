"""Deletes the bytes of deleted and expired files, and objects that a killed process left behind.

Invariant: a file's bytes are deleted before its row, so that no bytes are forgotten. An object
that belongs to nothing is deleted only when it is old enough that no process can still be about
to add a row for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Select

from core.db.database import Database
from core.db.tables.base import now
from core.errors import DatabaseUnavailable
from core.settings.batches import FileSettings
from files import repository
from files.errors import FilesUnavailable, StorageFull
from files.object_store import ListedObject, ObjectStore

log = structlog.get_logger()

DELETE_LIMIT = 500
#: One sweep of so many also looks for orphans: they are rare, and finding them lists the store.
SWEEPS_PER_ORPHAN_SCAN = 30

#: Returns which of some ids are still needed.
StillNeeded = Callable[[Database, Sequence[str]], Awaitable[set[str]]]


@dataclass(frozen=True, slots=True)
class FileReferences:
    """What other subsystems still need from the object store.

    Attributes:
        files_in_use: Selects the ids of files that must stay although they are deleted or expired.
        folders: Folder of the store -> which ids, the second part of its objects' names, are
            still needed.
    """

    files_in_use: Select[str]
    folders: Mapping[str, StillNeeded]


class FileSweeper:
    """Sweeps one object store."""

    def __init__(
        self, database: Database, object_store: ObjectStore, references: FileReferences
    ) -> None:
        self._database = database
        self._object_store = object_store
        self._files_in_use = references.files_in_use
        self._folders = {"files": repository.existing, **references.folders}

    async def run(self, settings: FileSettings) -> None:
        """Sweep every `settings.sweep_seconds` until cancelled."""
        sweeps = 0
        while True:
            try:
                await self.delete_removable()
                if sweeps % SWEEPS_PER_ORPHAN_SCAN == 0:
                    await self.delete_orphans(settings.orphan_seconds)
            except (DatabaseUnavailable, FilesUnavailable, StorageFull) as error:
                log.warning("files_not_swept", missing=error.code)
            sweeps += 1
            await asyncio.sleep(settings.sweep_seconds)

    async def delete_removable(self, file_id: str | None = None) -> None:
        """Delete every deleted or expired file that is not in use; only `file_id` if given.

        Raises:
            DatabaseUnavailable, FilesUnavailable: some files are still there.
        """
        while found := await repository.removable(
            self._database, self._files_in_use, DELETE_LIMIT, file_id
        ):
            await self._object_store.delete([repository.object_name(one) for one in found])
            await repository.delete_rows(self._database, found)
            log.info("files_deleted", files=len(found))
            if len(found) < DELETE_LIMIT:
                return

    async def delete_orphans(self, min_age_seconds: float) -> int:
        """Delete objects that belong to nothing and are older than `min_age_seconds`.

        Returns:
            How many objects were deleted.

        Raises:
            DatabaseUnavailable, FilesUnavailable: some orphans are still there.
        """
        before = now() - timedelta(seconds=min_age_seconds)
        deleted = 0
        for folder, still_needed in self._folders.items():
            async for listed in self._object_store.listed(folder):
                old = [item for item in listed if item.modified < before]
                deleted += await self._delete_unneeded(old, still_needed)
        await self._object_store.delete_unfinished(min_age_seconds)
        return deleted

    async def _delete_unneeded(self, old: Sequence[ListedObject], still_needed: StillNeeded) -> int:
        if not old:
            return 0
        owners = {item.name: item.name.split("/")[1] for item in old}
        needed = await still_needed(self._database, sorted(set(owners.values())))
        orphans = [name for name, owner in owners.items() if owner not in needed]
        await self._object_store.delete(orphans)
        if orphans:
            log.warning("orphans_deleted", objects=len(orphans))
        return len(orphans)
