"""Where the bytes of files lie: a folder, or a bucket of any S3-compatible store.

Invariant: an object is there whole or not at all, whatever dies while it is written, and a full
disk leaves nothing behind. What means "not now" leaves as `FilesUnavailable` or `StorageFull`.
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
from wire.errors import FilesUnavailable, ObjectMissing, StorageFull

#: The smallest part S3 takes; two of them are in memory while an object is written.
PART_BYTES = 5 * 1024 * 1024
PARTS_AT_ONCE = 2
RETRY_AFTER_SECONDS = 5.0
#: A store that does not answer is given up, and whoever asked tells its client to come back.
TIMEOUTS = {"timeout": "30s", "connect_timeout": "5s"}
RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
OPTIONS = {
    "endpoint": "endpoint",
    "region": "region",
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
}
#: How the library's text tells a disk, a quota or a file limit that is reached.
NO_ROOM = ("No space left", "Disk quota exceeded", "File too large")
#: How a folder names what is being written; kill -9 leaves it there, and it is never listed.
ASIDE = re.compile(r"#\d+$")


class ListedObject(NamedTuple):
    """One object as the store lists it."""

    name: str
    size: int
    modified: datetime


class ObjectStore:
    """The one store of an installation."""

    def __init__(self, settings: FileSettings) -> None:
        """Read where it is; nothing is opened before its first use.

        Raises:
            ValueError: `files.url` names no store.
        """
        parts = urlsplit(settings.url.get_secret_value())
        self._folder: Path | None = None
        if parts.scheme == "file" and parts.path and not parts.netloc:
            self._folder = Path(unquote(parts.path)).resolve()
        elif parts.scheme != "s3" or not parts.netloc:
            raise ValueError("files.url: file:FOLDER or s3://BUCKET/PREFIX is expected")
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") or None
        self._options = dict(parse_qsl(parts.query))
        if unknown := sorted(set(self._options) - set(OPTIONS)):
            raise ValueError(f"files.url: {', '.join(OPTIONS)} are known, not {unknown[0]!r}")

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
        """Write an object; what is there already is replaced in one step.

        An error of `pieces`, or being cancelled, leaves nothing behind.
        """
        queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(1)
        writing = asyncio.create_task(self._write(name, _drain(queue)))
        try:
            async for piece in pieces:
                if piece:
                    await _hand_over(queue, piece, writing)
            await _hand_over(queue, None, writing)
        except BaseException:
            # The writer comes to its end by itself: it takes away what it has begun.
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
                max_concurrency=PARTS_AT_ONCE,
            )

    async def put_bytes(self, name: str, data: bytes) -> None:
        """Write a small object."""
        async with _translated():
            await asyncio.shield(obstore.put_async(self._store, name, data))

    async def read(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`, or to the object's end.

        Raises:
            ObjectMissing: there is no such object.
        """
        async with _translated():
            return bytes(await obstore.get_range_async(self._store, name, start=start, end=end))

    async def pieces(self, name: str, size: int, step: int) -> AsyncGenerator[bytes, None]:
        """Yield an object of `size` bytes in pieces; nothing is open in between."""
        for start in range(0, size, step):
            yield await self.read(name, start, min(size, start + step))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are not there are passed over."""
        for name in names:
            with suppress(ObjectMissing):
                async with _translated():
                    await obstore.delete_async(self._store, name)

    async def listed(self, prefix: str) -> AsyncGenerator[list[ListedObject], None]:
        """Yield the objects under a prefix, a page at a time."""
        pages = obstore.list(self._store, prefix=prefix, chunk_size=1_000)
        while True:
            async with _translated():
                page = await anext(pages, None)
            if page is None:
                return
            yield [ListedObject(one["path"], one["size"], one["last_modified"]) for one in page]

    async def forget_unfinished(self, seconds: float) -> None:
        """Delete what killed writers left in a folder; buckets do so by a rule of their own."""
        if self._folder is not None:
            await asyncio.to_thread(_delete_aside, self._folder, time.time() - seconds)


class _Abandoned(Exception):
    """Tells the writer that nothing more comes and nothing shall stay."""


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
    """Put a piece once there is room, unless the writer ends before."""
    putting = asyncio.ensure_future(queue.put(piece))
    try:
        await asyncio.wait({putting, writing}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        putting.cancel()


def _delete_aside(folder: Path, before: float) -> None:
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if ASIDE.search(path.name) and path.is_file() and path.stat().st_mtime < before:
                path.unlink()


@asynccontextmanager
async def _translated() -> AsyncGenerator[None, None]:
    """Turn what the store raises into our own errors; its text may name hosts and paths."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing("the file's content is not there") from error
    except (BaseError, OSError) as error:
        if any(sign in str(error) for sign in NO_ROOM):
            raise StorageFull(
                "there is no room for the file at the moment",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        raise FilesUnavailable(
            "the file store does not answer at the moment", retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error
