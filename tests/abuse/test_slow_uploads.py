"""Uploads that arrive slowly end, and those of one account leave places to others."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from files import upload as uploads
from files.upload import Upload
from wire.errors import BodyTimeout

FORM = "multipart/form-data; boundary=b"
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n'
)
TAIL = b"\r\n--b--\r\n"
PIECES = 100


async def slow_client() -> AsyncIterator[bytes]:
    """Send a file of one byte every hundredth of a second, or slower."""
    yield HEAD
    for _ in range(PIECES):
        await asyncio.sleep(0.01)
        yield b"x"
    yield TAIL


async def read(upload: Upload) -> bytes:
    return b"".join([piece async for piece in upload.pieces()])


async def test_an_upload_below_the_slowest_rate_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.2)
    upload = Upload(FORM, slow_client(), 1_000, bytes_per_second=1_000_000)
    with pytest.raises(BodyTimeout, match="too slowly"):
        await read(upload)
    assert 0 <= upload.bytes < PIECES


async def test_an_upload_above_the_slowest_rate_goes_on_for_as_long_as_it_takes() -> None:
    upload = Upload(FORM, slow_client(), 1_000, bytes_per_second=1)
    assert await read(upload) == b"x" * PIECES
