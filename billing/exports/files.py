"""Writes an export into a folder: aside first, then renamed, and noted in the `exports` table.

Invariant: under its name there is a whole export with its checksums or none, whatever happens to
the disk or to this process on the way.
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
from billing.exports.formats import SUMS, Format, export_name, sums_text, writer_of
from core.db.engine import Database
from core.db.tables.invoices import ExportRow
from core.ids import new_id
from core.settings.billing import SellerSettings

#: Told how many usage events are written, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file of an export."""

    name: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written where; `unchanged` if the very same bytes were there already."""

    folder: Path
    files: list[ExportedFile]
    preliminary: bool
    unchanged: bool


async def export_month(
    database: Database,
    wanted: ExportRequest,
    as_format: Format,
    out: Path,
    seller: SellerSettings,
    *,
    actor: str = "",
    progress: Progress = lambda _done, _events: None,
) -> Exported:
    """Write a month's bills into a folder of their own in `out`.

    Raises:
        InvalidMonth, MonthNotClosed: there is nothing to export.
        ExportFailed: it could not be written; nothing of it is left.
        DatabaseUnavailable: come back later; nothing of it is left.
    """
    async with database.read() as connection:
        content = await open_content(connection, wanted, seller)
        folder = out / export_name(wanted, as_format, preliminary=content.preliminary)
        events = await content.count_usage()
        with _aside(folder) as aside:
            files = await _write(aside, writer_of(as_format)(content), events, progress)
            unchanged = _put_in_place(aside, folder)
    await _note(database, wanted, as_format, folder.name, files, actor)
    return Exported(folder, files, content.preliminary, unchanged)


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Make a folder that is gone at the end, unless it was renamed."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        aside.mkdir(parents=True)
        yield aside
    except OSError as error:
        raise ExportFailed(f"{folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


async def _write(
    aside: Path, chunks: AsyncGenerator[Chunk, None], events: int, progress: Progress
) -> list[ExportedFile]:
    """Write files as their chunks come, one after the other, and then their checksums."""
    files: list[ExportedFile] = []
    done = 0
    writing: _Writing | None = None
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                if writing is None or writing.name != chunk.file:
                    files += [writing.end()] if writing else []
                    writing = _Writing(aside, chunk.file)
                writing.add(chunk)
                done += chunk.rows
                progress(done, events)
        files += [writing.end()] if writing else []
    finally:
        if writing is not None:
            writing.close()
    (aside / SUMS).write_bytes(sums_text({file.name: file.sha256 for file in files}))
    return files


class _Writing:
    """A file under way, with its checksum."""

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
        """Bring it to the disk, where a full one shows."""
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        self._file.close()
        return ExportedFile(self.name, size, self._digest.hexdigest(), self._rows)

    def close(self) -> None:
        """Close it, whatever became of it: on a full disk this fails once more."""
        with suppress(OSError):
            self._file.close()


def _put_in_place(aside: Path, folder: Path) -> bool:
    """Rename the folder; returns whether the same export was there already."""
    if not folder.exists():
        aside.rename(folder)
        return False
    sums = folder / SUMS
    if not sums.is_file():
        raise FileExistsError(0, "there is something else of that name")
    if sums.read_bytes() == (aside / SUMS).read_bytes():
        return True
    old = aside.with_suffix(".old")
    folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old)
    return False


async def _note(
    database: Database,
    wanted: ExportRequest,
    as_format: Format,
    folder: str,
    files: list[ExportedFile],
    actor: str,
) -> None:
    rows = [
        {
            "id": new_id("export"),
            "month": wanted.month,
            "account_id": wanted.account,
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
