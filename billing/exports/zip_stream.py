"""An export as a ZIP archive that is sent while it is written: the same files as in a folder.

Invariant: memory is constant, and the same bytes result each time: file times inside are the
instant at which the month was closed.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from billing.exports.content import Content
from billing.exports.formats import SUMS, Writer, sums_text
from billing.exports.write_buffer import WriteBuffer

#: The lowest compression level already shrinks text tenfold; a higher one would be the bottleneck.
COMPRESSION_LEVEL = 1


async def zip_export(content: Content, write: Writer) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of the archive."""
    buffer = WriteBuffer()
    digests: dict[str, Any] = {}
    entry: IO[bytes] | None = None
    with ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        try:
            async with aclosing(write(content)) as chunks:
                async for chunk in chunks:
                    if entry is None or chunk.file not in digests:
                        if entry is not None:
                            entry.close()
                        entry = _open(archive, chunk.file, content)
                        digests[chunk.file] = hashlib.sha256()
                    await asyncio.to_thread(entry.write, chunk.data)
                    digests[chunk.file].update(chunk.data)
                    yield buffer.take()
        finally:
            if entry is not None:
                entry.close()
        with _open(archive, SUMS, content) as sums:
            sums.write(sums_text({name: digest.hexdigest() for name, digest in digests.items()}))
    yield buffer.take()


def _open(archive: ZipFile, name: str, content: Content) -> IO[bytes]:
    info = ZipInfo(name, content.stamp.timetuple()[:6])
    info.compress_type = ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return archive.open(info, "w", force_zip64=True)
