"""The response that follows one job as server-sent events.

Invariant: one client holds at most one batch of events. A client that does not read it within the
send timeout is disconnected and may resume at its cursor. The caller's permission is checked
again before each batch.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.security.authentication import check_again
from api.streaming.disconnect import ClientDisconnect
from core import metrics
from core.errors import PipelineError
from intake.errors import ShuttingDown, WaitTimeout
from intake.lifetime.client_span import client_span
from intake.lifetime.request_lifetime import EndReason, RequestLifetime
from intake.services import Services
from intake.watched_job import WatchedJob, cancel_if_abandoned
from wire import error_bodies
from wire.sse import HEADERS
from wire.views.stream_view import StreamView

log = structlog.get_logger()


class EventStream(Response):
    """Streams one job's events until the job ends, the client disconnects or the server stops."""

    def __init__(
        self,
        services: Services,
        watched: WatchedJob,
        view: StreamView,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        own = {**HEADERS, "X-Penstock-Job": watched.job_id}
        super().__init__(None, headers={**own, **(headers or {})})
        del self.headers["content-length"]
        self._services = services
        self._watched = watched
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; cancel the job afterwards if its disconnect policy says so."""
        watched, view = self._watched, self._view
        writer = _StreamWriter(send, self._services.settings.stream.send_timeout_seconds)
        with (
            metrics.streams.track_inprogress(),
            self._services.job_watchers.watching(watched.job_id),
            client_span(watched.job_id, watched.traceparent, "stream"),
        ):
            lifetime = RequestLifetime(
                ClientDisconnect(receive), self._services.open_requests, gets_grace=view.gets_grace
            )
            async with lifetime:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
                await self._follow(writer, scope)
            if lifetime.ended is EndReason.SERVER:
                stop = ShuttingDown("This server is shutting down", retry_after_seconds=1)
                await writer.write(view.fail(error_bodies.from_error(stop, job_id=watched.job_id)))
        if (lifetime.ended is EndReason.CLIENT or writer.stuck) and not view.ended:
            await cancel_if_abandoned(self._services, watched)
        if writer.stuck:
            log.info("stream_cut", job_id=watched.job_id, reason="client does not read")
            if (abort := scope["state"].get("abort")) is not None:
                abort()
        await writer.end()

    async def _follow(self, writer: "_StreamWriter", scope: Scope) -> None:
        view, watched = self._view, self._watched
        try:
            await writer.write(view.preamble)
            await self._show(writer, scope)
        except PipelineError as error:
            await writer.write(view.fail(error_bodies.from_error(error, job_id=watched.job_id)))
        except Exception:
            log.exception("stream_failed", job_id=watched.job_id)
            await writer.write(view.fail(error_bodies.internal()))

    async def _show(self, writer: "_StreamWriter", scope: Scope) -> None:
        view, watched = self._view, self._watched
        settings = self._services.settings
        silence = 0.0
        following = self._services.hub.follow(watched.job_id, watched.account, watched.after)
        async with aclosing(following) as batches:
            async for events in batches:
                await check_again(self._services, scope)
                if events:
                    silence = 0.0
                    shown = view.show(events)
                    await writer.write(shown, last=view.ended)
                else:
                    silence += settings.stream.ping_seconds
                    await writer.write(view.ping)
                if silence >= settings.limits.sync_seconds:
                    raise WaitTimeout("No event arrived in time; the job continues")
                if view.ended or writer.stuck:
                    return


class _StreamWriter:
    """Writes to the client; if a write exceeds the time limit, sets `stuck` and writes no more."""

    __slots__ = ("_closed", "_seconds", "_send", "stuck")

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._seconds = seconds
        self._closed = False
        self.stuck = False

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if self._closed or self.stuck or not (data or last):
            return
        self._closed = last
        timeout = asyncio.timeout(self._seconds)
        try:
            async with timeout:
                await self._send(
                    {"type": "http.response.body", "body": data, "more_body": not last}
                )
        except TimeoutError:
            if not timeout.expired():
                raise
            self.stuck = True

    async def end(self) -> None:
        await self.write(b"", last=True)
