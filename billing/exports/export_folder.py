"""Writes an export to a folder: to a temporary one, which is then renamed, and into `exports`.

Invariant: under its final name there is a complete export with checksums or nothing, whatever
happens to the disk or to this process.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert

from billing.errors import ExportFailed
from billing.exports.content import Chunk, ExportRequest, open_content
from billing.exports.formats import (
    SUMS,
    Format,
    export_name,
    read_sums,
    sums_text,
    writer_of,
)
from core.db.database import Database
from core.db.tables.invoices import ExportRow
from core.ids import new_id
from core.settings.billing import SellerSettings

#: Called with the number of usage events written so far, and with the number of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file of an export; `rows` counts its usage events."""

    name: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written and where.

    `unchanged` if an identical export was there already. `restored` names the files of an earlier
    export which had been changed or removed since, and which were written again.
    """

    folder: Path
    files: list[ExportedFile]
    preliminary: bool
    unchanged: bool
    restored: tuple[str, ...] = ()


async def export_month(
    database: Database,
    request: ExportRequest,
    as_format: Format,
    out: Path,
    seller: SellerSettings,
    *,
    actor: str = "",
    progress: Progress = lambda _done, _events: None,
) -> Exported:
    """Write a month's export into a folder of its own in `out`.

    Args:
        database: where the ledger is.
        request: which month and account.
        as_format: the format of the files.
        out: the parent folder.
        seller: the seller's details, for preliminary invoices.
        actor: who exports it, for the `exports` table.
        progress: called with the usage events written so far and with their number.

    Raises:
        InvalidMonth, MonthNotClosed: there is nothing to export.
        ExportFailed: it could not be written; no part of it is left.
        DatabaseUnavailable: no part of it is left; try again later.
    """
    async with database.read() as connection:
        content = await open_content(connection, request, seller)
        folder = out / export_name(request, as_format, preliminary=content.preliminary)
        events = await content.count_usage()
        with _temporary_folder(folder) as temporary:
            files = await _write(temporary, writer_of(as_format)(content), events, progress)
            before = _earlier_export(folder)
            unchanged = _put_in_place(temporary, folder, before)
    await _record_export(database, request, as_format, folder.name, files, actor)
    restored = before.damaged if before else ()
    return Exported(folder, files, content.preliminary, unchanged, restored)


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Create a temporary folder, which is removed at the end unless it was renamed."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as error:
        raise ExportFailed(f"{folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


async def _write(
    temporary: Path, chunks: AsyncGenerator[Chunk, None], events: int, progress: Progress
) -> list[ExportedFile]:
    """Write files one after the other as their chunks arrive, then their checksums."""
    files: list[ExportedFile] = []
    done = 0
    writer: _FileWriter | None = None
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                if writer is None or writer.name != chunk.file:
                    files += [writer.end()] if writer else []
                    writer = _FileWriter(temporary, chunk.file)
                writer.add(chunk)
                done += chunk.rows
                progress(done, events)
        files += [writer.end()] if writer else []
    finally:
        if writer is not None:
            writer.close()
    (temporary / SUMS).write_bytes(sums_text({file.name: file.sha256 for file in files}))
    return files


class _FileWriter:
    """A file that is being written, with its checksum."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file = (folder / name).open("wb")
        self._digest = hashlib.sha256()
        self._rows = 0

    def add(self, chunk: Chunk) -> None:
        self._file.write(chunk.data)
        self._digest.update(chunk.data)
        self._rows += chunk.rows

    def end(self) -> ExportedFile:
        """Flush it to the disk, where a full disk shows, and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        return ExportedFile(self.name, size, self._digest.hexdigest(), self._rows)

    def close(self) -> None:
        """Close the file after an error; on a full disk closing fails again."""
        with suppress(OSError):
            self._file.close()


@dataclass(frozen=True, slots=True)
class _EarlierExport:
    """An export that is there already: its checksum file, and files that differ from it."""

    sums: bytes
    damaged: tuple[str, ...]


def _earlier_export(folder: Path) -> _EarlierExport | None:
    """Return the export that a folder holds; None if there is no such folder.

    Raises:
        FileExistsError: it is no export, or it holds files that are not the export's: replacing it
            would delete them.
    """
    if not folder.exists():
        return None
    sums = folder / SUMS
    if not sums.is_file():
        raise FileExistsError(0, "something that is not an export has that name")
    content = sums.read_bytes()
    digests = read_sums(content)
    foreign = {path.name for path in folder.iterdir()} - {SUMS, *digests}
    if foreign:
        names = ", ".join(sorted(foreign))
        raise FileExistsError(0, f"files that are not of the export are there, move them: {names}")
    damaged = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    return _EarlierExport(content, tuple(damaged))


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256; None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put_in_place(temporary: Path, folder: Path, before: _EarlierExport | None) -> bool:
    """Rename the folder; returns whether an identical export was there already."""
    if before is None:
        temporary.rename(folder)
        return False
    if not before.damaged and before.sums == (temporary / SUMS).read_bytes():
        return True
    old = temporary.with_suffix(".old")
    folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old)
    return False


async def _record_export(
    database: Database,
    request: ExportRequest,
    as_format: Format,
    folder: str,
    files: list[ExportedFile],
    actor: str,
) -> None:
    rows = [
        {
            "id": new_id("export"),
            "month": request.month,
            "account_id": request.account,
            "name": f"{folder}/{file.name}",
            "format": as_format,
            "sha256": file.sha256,
            "size_bytes": file.size,
            "rows": file.rows,
            "created_by": actor,
        }
        for file in files
    ]
    if rows:
        async with database.write() as connection:
            await connection.execute(insert(ExportRow), rows)
