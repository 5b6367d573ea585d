"""The response that follows one job as server-sent events.

Invariant: one client holds at most one batch of events. A client that does not read it within the
send timeout is disconnected and may resume at its cursor. The caller's permission is checked
again before each batch. A stream that was created with a submission is held for a moment: an error
that is known by then is an HTTP error, as without a stream.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.http.error_handlers import problem_response
from api.security.authentication import check_again
from api.streaming.disconnect import ClientDisconnect
from api.streaming.stream_writer import StreamWriter
from core import metrics
from core.errors import PipelineError
from intake.errors import ShuttingDown, WaitTimeout
from intake.lifetime.client_span import client_span
from intake.lifetime.request_lifetime import EndReason, RequestLifetime
from intake.services import Services
from intake.watched_job import WatchedJob, cancel_if_abandoned
from jobs.events import Event, EventType
from jobs.status import Status
from wire import error_bodies
from wire.error_bodies import Problem
from wire.sse import HEADERS
from wire.views.stream_view import StreamView

log = structlog.get_logger()

#: Describes why a job has ended without a result.
DescribeEnd = Callable[[Status, Mapping[str, object] | None], Problem]
#: Events before the first output; a job may fail after any of them.
EARLY = (EventType.STARTED, EventType.RESTARTED)


class EventStream(Response):
    """Streams one job's events until the job ends, the client disconnects or the server stops."""

    def __init__(
        self,
        services: Services,
        watched: WatchedJob,
        view: StreamView,
        *,
        headers: Mapping[str, str] | None = None,
        describe_end: DescribeEnd | None = None,
    ) -> None:
        """Prepare a stream.

        Args:
            services: The process's services.
            watched: The job and the cursor.
            view: Encodes the events.
            headers: More headers of the response.
            describe_end: For streams that were created with a submission: describes the end of a
                job that had no output, which is then an HTTP error. None: the status is sent
                immediately, and every error is an event.
        """
        self._submission_headers = headers or {}
        own = {**HEADERS, "X-Penstock-Job": watched.job_id}
        super().__init__(None, headers={**own, **self._submission_headers})
        del self.headers["content-length"]
        self._services = services
        self._watched = watched
        self._view = view
        self._describe_end = describe_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; cancel the job afterwards if its disconnect policy says so."""
        watched, view = self._watched, self._view
        seconds = self._services.settings.stream.send_timeout_seconds
        writer = StreamWriter(send, seconds, self.raw_headers)
        refusal: Problem | None = None
        with (
            metrics.streams.track_inprogress(),
            self._services.job_watchers.watching(watched.job_id),
            client_span(watched.job_id, watched.traceparent, "stream"),
        ):
            lifetime = RequestLifetime(
                ClientDisconnect(receive), self._services.open_requests, gets_grace=view.gets_grace
            )
            async with lifetime:
                refusal = await self._follow(writer, scope)
            if lifetime.ended is EndReason.SERVER:
                stop = ShuttingDown("This server is shutting down", retry_after_seconds=1)
                refusal = await self._fail(writer, stop)
        left = lifetime.ended is EndReason.CLIENT or writer.stuck
        if left and refusal is None and not view.ended:
            await cancel_if_abandoned(self._services, watched)
        if refusal is not None:
            whole = replace(
                refusal,
                job_id=watched.job_id,
                headers={**self._submission_headers, **refusal.headers},
            )
            await problem_response(whole, scope)(scope, receive, send)
            return
        if left and not writer.opened:
            return
        if writer.stuck:
            log.info("stream_cut", job_id=watched.job_id, reason="client does not read")
            if (abort := scope["state"].get("abort")) is not None:
                abort()
        await writer.end()

    async def _follow(self, writer: StreamWriter, scope: Scope) -> Problem | None:
        """Send all events; return why there are none, if the status is not sent yet."""
        view, watched = self._view, self._watched
        try:
            writer.hold(view.preamble)
            if self._describe_end is None:
                await writer.open()
            return await self._show(writer, scope)
        except PipelineError as error:
            return await self._fail(writer, error)
        except Exception:
            log.exception("stream_failed", job_id=watched.job_id)
            if not writer.opened:
                return error_bodies.internal()
            await writer.write(view.fail(error_bodies.internal()))
        return None

    async def _fail(self, writer: StreamWriter, error: PipelineError) -> Problem | None:
        """Send an error that ends the stream before the job does, or return it as a problem."""
        problem = error_bodies.from_error(error, job_id=self._watched.job_id)
        if not writer.opened:
            return problem
        await writer.write(self._view.fail(problem))
        return None

    async def _show(self, writer: StreamWriter, scope: Scope) -> Problem | None:
        view, watched = self._view, self._watched
        settings = self._services.settings
        loop = asyncio.get_running_loop()
        held_until = loop.time() + settings.stream.hold_seconds
        silence = 0.0

        def patience() -> float:
            seconds = settings.stream.ping_seconds
            return seconds if writer.opened else min(seconds, max(0.0, held_until - loop.time()))

        following = self._services.hub.follow(
            watched.job_id, watched.account, watched.after, patience
        )
        async with aclosing(following) as batches:
            async for events in batches:
                await check_again(self._services, scope)
                if not writer.opened:
                    if (refusal := self._failed_early(events)) is not None:
                        return refusal
                    if all(event.type in EARLY for event in events) and loop.time() < held_until:
                        writer.hold(view.show(events))
                        continue
                    await writer.open()
                    if not events:
                        continue
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
                    return None
        return None

    def _failed_early(self, events: Sequence[Event]) -> Problem | None:
        """Return why the job ended, if it did so without output and without a result."""
        first = next((event for event in events if event.type not in EARLY), None)
        if first is None or first.type != EventType.FINISHED or self._describe_end is None:
            return None
        data = first.decode()
        status = Status(data["status"])
        if status is Status.COMPLETED:
            return None
        return self._describe_end(status, data["error"])
