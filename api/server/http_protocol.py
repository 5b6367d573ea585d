"""uvicorn's HTTP protocol with bounds on what comes before the application: the head of a request.

uvicorn waits for ever for the end of a head, and holds one of any size. Invariant: a client has
`limits.header_seconds` for each head, and as long for what is left of a body when its answer was
sent; it is told why it is cut where there is somebody to tell.
"""

import time
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.server.middleware import new_request_id
from core.errors import PipelineError
from core.settings.api import LimitSettings
from wire import problems
from wire.errors import HeadersTimeout, HeadersTooLarge, MalformedRequest

#: What a header takes besides its name and value: ": " and the end of its line.
FRAMING = 4


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. `owes_since` is when the client began to owe us the rest of something."""

    limits: ClassVar[LimitSettings]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.owes_since: float | None = time.monotonic()
        self._in_head = True
        self._begun = False
        self._head_bytes = 0
        self._refusal: PipelineError = MalformedRequest("this is no HTTP request")

    # --- from the client ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that does not end is counted as it grows."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.header_bytes:
            self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """Begin a request: its head is awaited from now on."""
        super().on_message_begin()
        self.owes_since = time.monotonic()
        if not self._in_head:
            self._head_bytes = 0  # what has come with the end of the one before is not counted
        self._in_head = self._begun = True

    def on_headers_complete(self) -> None:
        """Check the whole head, then hand the request on."""
        limits = self.limits
        size = len(self.url) + sum(
            [len(name) + len(value) + FRAMING for name, value in self.headers]
        )
        if len(self.headers) > limits.header_count or size > limits.header_bytes:
            self._refusal = self._too_large()
            raise httptools.HttpParserError  # ends in `send_400_response`
        self._in_head, self.owes_since = False, None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request: nothing of it is owed any more."""
        self.owes_since = None
        super().on_message_complete()

    # --- to the client ------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """End an answer; a body nobody waits for any more may not come for ever."""
        super().on_response_complete()
        if self.cycle is not None and self.cycle.more_body:
            self.owes_since = time.monotonic()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or what one of the checks above refused."""
        del msg
        self._refuse(self._refusal)

    def cut_if_overdue(self, now: float) -> None:
        """Give up a client that owed us something for too long."""
        if self.owes_since is None or now - self.owes_since < self.limits.header_seconds:
            return
        if self._in_head and self._begun:
            seconds = f"{self.limits.header_seconds:g} s"
            self._refuse(HeadersTimeout(f"the headers did not arrive within {seconds}"))
        else:
            self.transport.abort()

    def _too_large(self) -> HeadersTooLarge:
        count, size = self.limits.header_count, self.limits.header_bytes
        return HeadersTooLarge(f"at most {count} headers with {size} bytes in all are expected")

    def _refuse(self, error: PipelineError) -> None:
        """Answer without the application, then close."""
        if self.transport.is_closing():
            return
        self.owes_since = None
        request_id = new_request_id()
        path = getattr(self, "url", b"").partition(b"?")[0].decode("latin-1") or "/"
        scope = {"type": "http", "path": path, "state": {"request_id": request_id.decode()}}
        answer = problems.response(problems.from_error(error), scope)
        headers = [*answer.raw_headers, (b"x-request-id", request_id), (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % header for header in headers]
        head = b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n"])
        self.transport.write(head + bytes(answer.body))
        self.transport.close()


def wire(limits: LimitSettings) -> type[BoundedHttpProtocol]:
    """Return the protocol with these limits."""
    return type("BoundedWire", (BoundedHttpProtocol,), {"limits": limits})
