"""Parses an uploaded form while it arrives and passes the file on piece by piece.

Invariant: only the bytes just received are in memory, and the other fields are bounded. The
pieces end without an error only if the whole form is valid, so that only valid files are stored.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from files.file_names import clean_name
from wire.errors import BodyTimeout, BodyTooLarge, FieldError, InvalidBody, MalformedBody

#: An upload is aborted when no byte arrives for so long. The slowest rate counts only after it.
IDLE_SECONDS = 60.0
MAX_FIELD_BYTES = 4_096
FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
PURPOSES = ("batch",)
MIN_EXPIRY = timedelta(hours=1)
MAX_EXPIRY = timedelta(days=30)


class Upload:
    """One form with a file; the attributes are complete once `pieces` has ended.

    Attributes:
        bytes: The file's length in bytes.
        filename: Its cleaned name.
        expires_after: How long to keep it; None for the default.
        purpose: What it is for.
    """

    def __init__(
        self,
        content_type: str | None,
        body: AsyncIterator[bytes],
        max_bytes: int,
        bytes_per_second: int,
    ) -> None:
        """Prepare to read a form.

        Args:
            content_type: The request's Content-Type header.
            body: The request's body; it is read while `pieces` is.
            max_bytes: How large the file may be.
            bytes_per_second: The slowest average rate at which it may arrive.

        Raises:
            MalformedBody: the content type is not a form with a boundary.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise MalformedBody("Content-Type: expected multipart/form-data with a boundary")
        self._body = body
        self._max_bytes = max_bytes
        self._rate = bytes_per_second
        self._received = 0
        self._waited = 0.0
        self._form = _Form(boundary)
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.filename = ""
        self.expires_after: timedelta | None = None
        self.purpose = ""

    @property
    def sha256(self) -> str:
        """Return the SHA-256 hash of the file's bytes, in hexadecimal."""
        return self._digest.hexdigest()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the file's bytes.

        Raises:
            InvalidBody, MalformedBody: the form is invalid; the error names the field.
            BodyTooLarge: the file is larger than `max_bytes`.
            BodyTimeout: no byte arrived for `IDLE_SECONDS`, or they arrive too slowly.
        """
        while (received := await self._next()) is not None:
            piece = self._form.feed(received)
            self.bytes += len(piece)
            if self.bytes > self._max_bytes:
                raise BodyTooLarge(f"The file is larger than {self._max_bytes} bytes")
            self._digest.update(piece)
            if piece:
                yield piece
            self._check_purpose()
        self._check()

    async def _next(self) -> bytes | None:
        """Return what arrives next; only time spent waiting for the client counts."""
        left = IDLE_SECONDS + self._received / self._rate - self._waited
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(IDLE_SECONDS, left)):
                received = await anext(self._body, None)
        except TimeoutError:
            raise BodyTimeout(
                f"The file arrives too slowly: within {IDLE_SECONDS:.0f} s no byte arrived, or"
                f" fewer than {self._rate} a second on average"
            ) from None
        self._waited += time.monotonic() - began
        self._received += len(received or b"")
        return received

    def _check_purpose(self) -> None:
        """Refuse a wrong purpose before the rest of the file arrives."""
        purpose = self._form.fields.get("purpose")
        if purpose is not None and purpose not in PURPOSES:
            raise _field_error("purpose", "expected `batch`, the only supported purpose")

    def _check(self) -> None:
        form = self._form
        if not form.ended:
            raise MalformedBody("The form ends before its last boundary")
        if form.filename is None:
            raise _field_error("file", "this field is required and must have a filename")
        if "purpose" not in form.fields:
            raise _field_error("purpose", "this field is required")
        self.purpose = form.fields["purpose"]
        self.filename = clean_name(form.filename)
        if not self.filename:
            raise _field_error("file", "expected a filename with a visible character")
        if not self.bytes:
            raise _field_error("file", "the file is empty")
        self.expires_after = _expiry(form.fields)


class _Form:
    """The state of the form's parser."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.ended = False
        self._pieces: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._header = (b"", b"")
        self._value = b""
        self._part = ""
        self._in_file = False
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._name_header,
            "on_header_value": self._fill_header,
            "on_header_end": self._end_header,
            "on_headers_finished": self._start,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    def feed(self, received: bytes) -> bytes:
        """Parse received bytes; returns those that belong to the file.

        The parser splits them at every carriage return.
        """
        self._pieces = []
        try:
            self._parser.write(received)
        except FormParserError:
            raise MalformedBody("The body is not valid multipart/form-data") from None
        return b"".join(self._pieces)

    def _begin(self) -> None:
        self._headers, self._header, self._value = {}, (b"", b""), b""

    def _name_header(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _fill_header(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _end_header(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = (b"", b"")

    def _start(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = self._part = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        self._in_file = name == "file" and filename is not None
        if name in self.fields or (name == "file" and self.filename is not None):
            raise _field_error(name, "this field may be given only once")
        if name != "file" and name not in FIELDS:
            raise _field_error(name[:64] or "form", "unknown field")
        if name == "file" and filename is not None:
            self.filename = filename.decode(errors="replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise _field_error(self._part, f"expected at most {MAX_FIELD_BYTES} bytes")

    def _end(self) -> None:
        if not self._in_file:
            self.fields[self._part] = self._value.decode(errors="replace")

    def _finish(self) -> None:
        self.ended = True


def _expiry(fields: dict[str, str]) -> timedelta | None:
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise _field_error("expires_after.anchor", "expected `created_at`")
    if seconds is None or not seconds.isascii() or not seconds.isdigit() or len(seconds) > 9:
        raise _field_error("expires_after.seconds", "expected a whole number of seconds")
    after = timedelta(seconds=int(seconds))
    if not MIN_EXPIRY <= after <= MAX_EXPIRY:
        least, most = (int(bound.total_seconds()) for bound in (MIN_EXPIRY, MAX_EXPIRY))
        raise _field_error("expires_after.seconds", f"expected {least} to {most} seconds")
    return after


def _field_error(field: str, message: str) -> InvalidBody:
    return InvalidBody([FieldError("/" + field.replace(".", "/"), field, message)])
