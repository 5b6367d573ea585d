"""The outermost layer, plain ASGI: request ids, the body's limit, the last resort, measuring.

Invariant: every response carries X-Request-ID; a body is never held beyond its limit, whether
its length was announced or not; no exception leaves without an answer in our shape.
"""

import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.errors import BodyTooLarge
from api.measure import Measured, method_of, route_of
from jobs import tracing

log = structlog.get_logger()

#: Request ids need to be unique, not secret: no random numbers for each.
PROCESS = secrets.token_hex(8).encode()
_numbers = itertools.count(1)
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Door:
    """Wraps the application; `uploads` are the paths that take larger bodies."""

    def __init__(self, app: ASGIApp, body_bytes: int, uploads: Mapping[str, int]) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._uploads.get(scope["path"], self._body_bytes)
        visit = _Visit(scope, receive, send, limit)
        structlog.contextvars.bind_contextvars(request_id=visit.request_id)
        visit.trace()
        try:
            visit.check_length()
            await self._app(scope, visit.receive, visit.send)
        except BodyTooLarge as error:
            await visit.answer(problems.from_error(error))
        except ClientDisconnect:
            log.info("client_left", path=scope["path"])
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            await visit.answer(problems.internal())
        finally:
            visit.close()


class _Visit:
    """One request's way through."""

    __slots__ = (
        *("_header", "_left", "_limit", "_receive", "_scope", "_send"),
        *("_measured", "_traced", "request_id"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = self._left = limit
        self._measured = Measured()
        self._traced: tracing.Request | None = None
        given = _header(scope, b"x-request-id")
        if given is None or not REQUEST_ID.fullmatch(given):
            given = b"req_%b%x" % (PROCESS, next(_numbers))
        self._header = (b"x-request-id", given)
        self.request_id = given.decode()
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        # uvicorn offers no way to drop a client that stopped reading; closing would wait for it.
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        state["abort"] = getattr(transport, "abort", None)

    def trace(self) -> None:
        """Join the client's trace, or be ready to begin one, where tracing is on."""
        tracer = tracing.active()
        if tracer is not None:
            given = _header(self._scope, b"traceparent")
            self._traced = tracing.Request(tracer, given.decode("latin-1") if given else None)
            tracing.request.set(self._traced)

    def close(self) -> None:
        """Count the request, and end its span if it has one."""
        span = self._traced.span if self._traced is not None else None
        self._measured.close(self._scope, span.context.trace if span else "")
        if span is not None:
            status, route = self._measured.status, route_of(self._scope)
            method = method_of(self._scope)
            attributes: tracing.Attributes = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "penstock.request.id": self.request_id,
            }
            error = str(status) if status >= 500 else ""
            span.end(f"{method} {route}", attributes, kind="server", error=error)

    def check_length(self) -> None:
        """Refuse a body that announces itself as too large."""
        length = _header(self._scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > self._limit:
            self._refuse()

    def _refuse(self) -> None:
        raise BodyTooLarge(f"the body may have at most {self._limit} bytes")

    async def receive(self) -> Message:
        """Pass the body on, counting."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._refuse()
        return message

    async def send(self, message: Message) -> None:
        """Pass the response on, with the request id."""
        if message["type"] == "http.response.start":
            self._scope["state"]["answered"] = True
            self._measured.answered(message["status"])
            message["headers"] = [*message.get("headers", ()), self._header]
        await self._send(message)

    async def answer(self, problem: problems.Problem) -> None:
        """Send a problem, unless a response is under way: then cut it off."""
        if "answered" not in self._scope["state"]:
            response = problems.response(problem, self._scope)
            await response(self._scope, self._receive, self.send)


def _header(scope: Scope, name: bytes) -> bytes | None:
    found: bytes | None = next((value for key, value in scope["headers"] if key == name), None)
    return found
