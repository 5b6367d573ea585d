"""Stores the bytes of files in a folder or in a bucket of an S3-compatible store.

Invariant: an object is stored whole or not at all, even if a process dies while it writes, and a
full disk leaves nothing behind. Temporary failures are raised as `FilesUnavailable` or
`StorageFull`.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from core.settings.batches import FileSettings
from files.errors import FilesUnavailable, ObjectMissing, StorageFull

#: The smallest part that S3 accepts. `MAX_CONCURRENT_PARTS` of them are in memory per write.
PART_BYTES = 5 * 1024 * 1024
MAX_CONCURRENT_PARTS = 2
RETRY_AFTER_SECONDS = 5.0
#: If the store does not answer in this time, the request fails and the client may retry.
TIMEOUTS = {"timeout": "30s", "connect_timeout": "5s"}
RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
#: The options of the URL (`core.settings.urls`) -> what the library calls them.
OPTIONS = {
    "endpoint": "endpoint",
    "region": "region",
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
}
#: Texts in the library's errors that mean: the disk, a quota or a file size limit is reached.
OUT_OF_SPACE = ("No space left", "Disk quota exceeded", "File too large")
#: The name of a file that a folder store is still writing; kill -9 leaves it there. It is never
#: listed.
UNFINISHED = re.compile(r"#\d+$")


class ListedObject(NamedTuple):
    """One object in a list; `size` is in bytes."""

    name: str
    size: int
    modified: datetime


class ObjectStore:
    """The object store of an installation."""

    def __init__(self, settings: FileSettings) -> None:
        """Read the store's address; the connection is opened on first use.

        Args:
            settings: `url` is `file:FOLDER` or `s3://BUCKET/PREFIX?OPTION=VALUE`.

        The settings have checked the address.
        """
        parts = urlsplit(settings.url.get_secret_value())
        is_folder = parts.scheme == "file"
        self._folder = Path(unquote(parts.path)).resolve() if is_folder else None
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") or None
        self._options = dict(parse_qsl(parts.query))

    @cached_property
    def _store(self) -> LocalStore | S3Store:
        if self._folder is not None:
            return LocalStore(self._folder, mkdir=True)
        config = {OPTIONS[name]: value for name, value in self._options.items()}
        plain = self._options.get("endpoint", "").startswith("http://")
        return S3Store(
            self._bucket,
            prefix=self._prefix,
            config=config,  # type: ignore[arg-type]
            client_options={**TIMEOUTS, "allow_http": plain},  # type: ignore[arg-type]
            retry_config=RETRIES,  # type: ignore[arg-type]
        )

    async def put(self, name: str, pieces: AsyncIterable[bytes]) -> None:
        """Write an object; an existing object is replaced in one step.

        If `pieces` raises or the task is cancelled, nothing is left behind.

        Args:
            name: The object's name, with folders.
            pieces: Its bytes, in pieces of any size.

        Raises:
            FilesUnavailable, StorageFull: nothing was written; retry later.
        """
        queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(1)
        writing = asyncio.create_task(self._write(name, _drain(queue)))
        try:
            async for piece in pieces:
                if piece:
                    await _hand_over(queue, piece, writing)
            await _hand_over(queue, None, writing)
        except BaseException:
            # Let the writer fail by itself: it then deletes what it has begun.
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(_Abandoned())
            await asyncio.wait({writing})
            writing.exception()
            raise
        await asyncio.shield(writing)

    async def _write(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        async with _translated():
            await obstore.put_async(
                self._store,
                name,
                pieces,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=MAX_CONCURRENT_PARTS,
            )

    async def put_bytes(self, name: str, data: bytes) -> None:
        """Write a small object in one request.

        Raises:
            FilesUnavailable, StorageFull: nothing was written; retry later.
        """
        async with _translated():
            await asyncio.shield(obstore.put_async(self._store, name, data))

    async def read(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes from offset `start` up to, not including, offset `end`.

        Returns:
            Fewer bytes if the object ends before `end`.

        Raises:
            ObjectMissing: there is no such object.
            FilesUnavailable: retry later.
        """
        async with _translated():
            return bytes(await obstore.get_range_async(self._store, name, start=start, end=end))

    async def pieces(self, name: str, size: int, step: int) -> AsyncGenerator[bytes, None]:
        """Yield an object in pieces; no connection is held between two pieces.

        Args:
            name: The object's name.
            size: Its length in bytes.
            step: The length of a piece in bytes.

        Raises:
            ObjectMissing, FilesUnavailable: as `read`.
        """
        for start in range(0, size, step):
            yield await self.read(name, start, min(size, start + step))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects; missing ones are skipped.

        Raises:
            FilesUnavailable: some may be left; safe to repeat.
        """
        for name in names:
            with suppress(ObjectMissing):
                async with _translated():
                    await obstore.delete_async(self._store, name)

    async def listed(self, prefix: str) -> AsyncGenerator[list[ListedObject], None]:
        """Yield pages of at most 1,000 objects whose names begin with a prefix.

        Raises:
            FilesUnavailable: retry later.
        """
        pages = obstore.list(self._store, prefix=prefix, chunk_size=1_000)
        while True:
            async with _translated():
                page = await anext(pages, None)
            if page is None:
                return
            yield [ListedObject(item["path"], item["size"], item["last_modified"]) for item in page]

    async def delete_unfinished(self, min_age_seconds: float) -> None:
        """Delete files that killed writers left in a folder; buckets have a rule for that."""
        if self._folder is not None:
            await asyncio.to_thread(
                _delete_unfinished_files, self._folder, time.time() - min_age_seconds
            )


class _Abandoned(Exception):
    """Tells the writer to stop and to keep nothing."""


async def _drain(queue: asyncio.Queue[bytes | BaseException | None]) -> AsyncIterator[bytes]:
    while (piece := await queue.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece


async def _hand_over(
    queue: asyncio.Queue[bytes | BaseException | None],
    piece: bytes | None,
    writing: asyncio.Task[None],
) -> None:
    """Put a piece into the queue when there is room; stop if the writer ends first."""
    putting = asyncio.ensure_future(queue.put(piece))
    try:
        await asyncio.wait({putting, writing}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        putting.cancel()


def _delete_unfinished_files(folder: Path, before: float) -> None:
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if UNFINISHED.search(path.name) and path.is_file() and path.stat().st_mtime < before:
                path.unlink()


@asynccontextmanager
async def _translated() -> AsyncGenerator[None, None]:
    """Translate the library's errors into ours: their text may contain hosts and paths."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing("The file's content is missing from the file store") from error
    except (BaseError, OSError) as error:
        if any(sign in str(error) for sign in OUT_OF_SPACE):
            raise StorageFull(
                "The file store is full. Try again later.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        raise FilesUnavailable(
            "The file store does not answer. Try again later.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error
