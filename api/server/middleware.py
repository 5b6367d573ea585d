"""The outermost ASGI middleware: request ids, body limits, unexpected errors, metrics, traces.

Invariant: every response carries X-Request-ID, and X-Trace-ID if the request is traced. A body is
never read beyond its size limit, with or without Content-Length, nor waited for longer than the
minimum transfer rate allows. Every unexpected exception becomes a problem response, and
every response has the headers that restrict browsers.
"""

import asyncio
import itertools
import re
import secrets
import types
from collections.abc import Generator
from time import monotonic, perf_counter
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.error_handlers import problem_response
from api.security.response_headers import secured
from api.server.body_limits import BodyLimits, PendingBody
from api.server.http_metrics import MeasuredRequest, method_of, route_of
from api.server.request_log import RequestLog, RequestRecord
from core import tracing
from core.settings.api import LimitSettings
from core.spans import Attributes
from wire import error_bodies
from wire.errors import AddressBusy, BodiesBusy, BodyTimeout, BodyTooLarge

log = structlog.get_logger()

#: Request ids must be unique but not secret, so a counter replaces random numbers.
PROCESS = secrets.token_hex(8).encode()
_numbers = itertools.count(1)
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def new_request_id() -> bytes:
    """Create an id for a request that has no X-Request-ID."""
    return b"req_%b%x" % (PROCESS, next(_numbers))


class RequestMiddleware:
    """Wraps the application."""

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitSettings,
        body_limits: BodyLimits,
        request_log: RequestLog,
    ) -> None:
        self._app = app
        self._limits = limits
        self._body_limits = body_limits
        self._request_log = request_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path.endswith("/") and len(path) > 1:  # clients join a base URL and a path carelessly
            scope["path"] = path.rstrip("/") or "/"
        request = _RequestScope(scope, receive, send, self._body_limits, self._limits)
        structlog.contextvars.bind_contextvars(request_id=request.request_id)
        request.trace()
        try:
            request.check_length()
            await self._app(scope, request.receive, request.send)
        except (BodyTooLarge, BodyTimeout, BodiesBusy, AddressBusy) as error:
            await request.answer(error_bodies.from_error(error))
        except ClientDisconnect:
            log.info("client_left", path=scope["path"])
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            await request.answer(error_bodies.internal())
        finally:
            request.close(self._request_log)


class _RequestScope:
    """State of one request: its id, the body received so far, metrics and trace."""

    __slots__ = (
        *(
            "_body_limits",
            "_header",
            "_limits",
            "_max_bytes",
            "_pending",
            "_received",
            "_receive",
            "_scope",
            "_send",
            "_waited",
        ),
        *("_measured", "_record", "_traced", "_whole", "request_id"),
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        body_limits: BodyLimits,
        limits: LimitSettings,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_bytes, self._limits = body_limits.size(scope["path"]), limits
        self._body_limits = body_limits
        self._pending: PendingBody | None = None
        self._received, self._waited, self._whole = 0, 0.0, False
        self._measured = MeasuredRequest()
        self._traced: tracing.RequestTrace | None = None
        given = _header(scope, b"x-request-id")
        if given is None or not REQUEST_ID.fullmatch(given):
            given = new_request_id()
        self._header = (b"x-request-id", given)
        self.request_id = given.decode()
        self._record = RequestRecord(self.request_id)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        # uvicorn offers no way to drop a client that stopped reading; closing would wait for it.
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        state["abort"] = getattr(transport, "abort", None)

    def trace(self) -> None:
        """If tracing is on, join the client's trace or prepare a new one."""
        tracer = tracing.active()
        if tracer is not None:
            given = _header(self._scope, b"traceparent")
            self._traced = tracing.RequestTrace(tracer, given.decode("latin-1") if given else None)
            tracing.request.set(self._traced)

    def close(self, request_log: RequestLog) -> None:
        """Log the request, record its metrics and end its span."""
        if self._pending is not None:
            self._pending.end()
        measured = self._measured
        seconds = perf_counter() - measured.started
        request_log.write(self._scope, self._record, measured.status, seconds)
        span = self._traced.span if self._traced is not None else None
        self._measured.close(self._scope, span.context.trace if span else "")
        if span is not None:
            status, route = self._measured.status, route_of(self._scope)
            method = method_of(self._scope)
            attributes: Attributes = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "penstock.request.id": self.request_id,
            }
            error = str(status) if status >= 500 else ""
            span.end(f"{method} {route}", attributes, kind="server", error=error)

    def check_length(self) -> None:
        """Reject a body whose Content-Length exceeds the limit."""
        length = _header(self._scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > self._max_bytes:
            self._refuse()

    def _refuse(self) -> None:
        raise BodyTooLarge(f"The body exceeds the limit of {self._max_bytes} bytes")

    async def receive(self) -> Message:
        """Receive the body, counting its bytes and the time spent waiting."""
        if self._whole:
            return await self._receive()
        # A timeout is set up only if the next chunk is not there yet, which is rare.
        receiving: Any = self._receive().__await__()
        try:
            waits_for = next(receiving)
        except StopIteration as done:
            message: Message = done.value
        else:
            message = await self._in_time(waits_for, receiving)
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._received += size
            self._whole = not message.get("more_body", False)
            if self._received > self._max_bytes:
                self._refuse()
            if self._whole:
                if self._pending is not None:
                    self._pending.end()
            else:
                self._count_pending(size)
        return message

    def _count_pending(self, size: int) -> None:
        """Count a part of a body of which more is to come, which is rare."""
        if self._pending is None:
            self._pending = self._body_limits.begin(self._scope)
        if self._pending is not None:
            self._pending.add(size)

    async def _in_time(self, waits_for: Any, receiving: Generator[Any, Any, Message]) -> Message:
        """Wait for the next chunk; the time allowed grows with the bytes received so far."""
        limits, started = self._limits, monotonic()
        allowed = limits.body_seconds + self._received / limits.body_bytes_per_second
        try:
            async with asyncio.timeout(max(0.0, allowed - self._waited)):
                return await _resume(waits_for, receiving)
        except TimeoutError:
            raise BodyTimeout(
                f"The body did not arrive within {limits.body_seconds:g} s, nor at"
                f" {limits.body_bytes_per_second} bytes a second"
            ) from None
        finally:
            self._waited += monotonic() - started

    async def send(self, message: Message) -> None:
        """Send the response with the id of the request and, if it is traced, of its trace."""
        if message["type"] == "http.response.start":
            self._scope["state"]["answered"] = True
            self._measured.answered(message["status"])
            message["headers"] = secured([*message.get("headers", ()), self._header])
            if self._traced is not None and self._traced.span is not None:
                trace_id = self._traced.span.context.trace.encode()
                message["headers"].append((b"x-trace-id", trace_id))
        self._record.sent(message)
        await self._send(message)

    async def answer(self, problem: error_bodies.Problem) -> None:
        """Send a problem; if a response has already started, send nothing, which truncates it."""
        if "answered" not in self._scope["state"]:
            response = problem_response(problem, self._scope)
            await response(self._scope, self._receive, self.send)


@types.coroutine
def _resume(
    waits_for: Any, receiving: Generator[Any, Any, Message]
) -> Generator[Any, Any, Message]:
    """Continue a coroutine that was started by hand."""
    yield waits_for
    return (yield from receiving)


def _header(scope: Scope, name: bytes) -> bytes | None:
    found: bytes | None = next((value for key, value in scope["headers"] if key == name), None)
    return found
