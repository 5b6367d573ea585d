"""uvicorn's HTTP protocol with limits on the size and duration of request headers.

uvicorn itself limits neither. Invariant: a client has `limits.header_seconds` to send the headers
of each request, and the same time to send the rest of a body after its response was sent. A client
that sent incomplete headers gets a response before it is disconnected.
"""

import asyncio
import time
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.http.error_handlers import problem_response
from api.security.response_headers import secured
from api.server.connection_limits import PROBES, ConnectionLimits
from api.server.middleware import new_request_id
from api.server.request_log import RequestLog, RequestRecord
from core.errors import PipelineError
from core.settings.api import LimitSettings
from wire import error_bodies
from wire.errors import HeadersTimeout, HeadersTooLarge, MalformedRequest

#: Bytes of a header besides its name and value: ": " and the line end.
HEADER_OVERHEAD = 4


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection; `waiting_since` is when it began to wait for the rest of a request."""

    limits: ClassVar[LimitSettings]
    places: ClassVar[ConnectionLimits]
    request_log: ClassVar[RequestLog]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting_since: float | None = time.monotonic()
        self._in_head = True
        self._begun = False
        self._head_bytes = 0
        self._place = ""
        self._beyond: PipelineError | None = None
        self._refusal: PipelineError = MalformedRequest("This is not an HTTP request")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; one that is beyond a limit serves no request."""
        super().connection_made(transport)
        count = len(self.connections)
        host = self.client[0] if self.client else ""
        self._place, self._beyond = self.places.add(host, count)
        if self.places.is_full(count):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self.places.remove(self._place)
        super().connection_lost(exc)

    # --- from the client ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Process received bytes; count those of headers that have not ended."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.header_bytes:
            self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """Begin a request; the time limit of its headers starts now."""
        super().on_message_begin()
        self.waiting_since = time.monotonic()
        if not self._in_head:
            self._head_bytes = (
                0  # bytes received together with the previous request are not counted
            )
        self._in_head = self._begun = True

    def on_headers_complete(self) -> None:
        """Check the complete headers, then pass the request on."""
        limits = self.limits
        size = len(self.url) + sum(
            [len(name) + len(value) + HEADER_OVERHEAD for name, value in self.headers]
        )
        if len(self.headers) > limits.header_count or size > limits.header_bytes:
            self._refusal = self._too_large()
            raise httptools.HttpParserError  # uvicorn then calls `send_400_response`
        if self._beyond is not None and self.url.decode("latin-1") not in PROBES:
            self._refusal = self._beyond
            raise httptools.HttpParserError  # uvicorn then calls `send_400_response`
        self._in_head, self.waiting_since = False, None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request; nothing more is expected of it."""
        self.waiting_since = None
        super().on_message_complete()

    # --- to the client ------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """End a response; limit the time for the rest of a body that is no longer needed."""
        super().on_response_complete()
        if self.cycle is not None and self.cycle.more_body:
            self.waiting_since = time.monotonic()

    def send_400_response(self, msg: str) -> None:
        """Reject a request that is not HTTP or that a check above rejected."""
        del msg
        self._refuse(self._refusal)

    def disconnect_if_overdue(self, now: float) -> None:
        """Disconnect a client that has exceeded its time limit."""
        if self.waiting_since is None or now - self.waiting_since < self.limits.header_seconds:
            return
        if self._in_head and self._begun:
            seconds = f"{self.limits.header_seconds:g} s"
            self._refuse(HeadersTimeout(f"The headers did not arrive within {seconds}"))
        else:
            self.transport.abort()

    def _too_large(self) -> HeadersTooLarge:
        count, size = self.limits.header_count, self.limits.header_bytes
        return HeadersTooLarge(f"The headers exceed the limit of {count} headers or {size} bytes")

    def _refuse(self, error: PipelineError) -> None:
        """Respond without the application, then close the connection."""
        if self.transport.is_closing():
            return
        began, self.waiting_since = self.waiting_since, None
        request_id = new_request_id()
        path = getattr(self, "url", b"").partition(b"?")[0].decode("latin-1") or "/"
        state = {"request_id": request_id.decode()}
        scope = {"type": "http", "method": "", "path": path, "state": state}
        answer = problem_response(error_bodies.from_error(error), scope)
        own = (b"x-request-id", request_id), (b"connection", b"close")
        headers = secured([*answer.raw_headers, *own])
        lines = [b"%b: %b\r\n" % header for header in headers]
        head = b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n"])
        self.transport.write(head + bytes(answer.body))
        self.transport.close()
        record = RequestRecord(state["request_id"], bytes=len(answer.body))
        waited = 0.0 if began is None else time.monotonic() - began
        self.request_log.write(scope, record, answer.status_code, waited)


def bounded_protocol(
    limits: LimitSettings, places: ConnectionLimits, request_log: RequestLog
) -> type[BoundedHttpProtocol]:
    """Create the protocol class with these limits; uvicorn instantiates it per connection."""
    own = {"limits": limits, "places": places, "request_log": request_log}
    return type("LimitedHttpProtocol", (BoundedHttpProtocol,), own)
