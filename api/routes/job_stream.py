"""The route for a job's event stream, which clients can resume after any event."""

from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.openapi.route_docs import error_responses, stream_responses
from api.streaming.event_stream import EventStream
from core.errors import InvalidJob
from intake.services import Services
from intake.watched_job import WatchedJob
from jobs.events import EventType
from jobs.job import Job
from jobs.store.job_reader import check_cursor
from wire.errors import InvalidCursor
from wire.sse import HEADERS, frame
from wire.views.job import JobEvents, done_event

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

#: Most digits of an event number; more would exceed a Redis stream id.
SEQ_DIGITS = 15


@router.get(
    "/{job_id}/stream",
    responses={
        **stream_responses(),
        **error_responses(400, 401, 404, 410, 503),
        204: {"description": "The job has ended and no events are left"},
    },
)
async def stream_job(
    job_id: str,
    caller: CurrentCaller,
    services: AppServices,
    last_event_id: Annotated[str | None, Header()] = None,
    last_event_id_query: Annotated[str | None, Query(alias="lastEventID")] = None,
    starting_after: Annotated[str | None, Query()] = None,
) -> Response:
    """Stream a job's events after a cursor. 204 if the job has ended and no events are left."""
    job = await services.store.get(job_id, caller.account)
    after = _cursor(
        job,
        {
            "Last-Event-ID": last_event_id,
            "lastEventID": last_event_id_query,
            "starting_after": starting_after,
        },
    )
    if job.status.is_terminal and after >= job.seq and after > 0:
        return Response(status_code=204)
    # Without an empty line it is part of the first event; alone, readers take it for an empty one.
    retry = b"retry: %d\n" % services.settings.stream.retry_milliseconds
    first = await _first_seq(services, job, after)
    if first is None or first == after + 1:
        watched = WatchedJob.of(job, after)
        return EventStream(services, watched, _view(services, job, retry))
    return _truncated(services, job, after, first, retry)


def _view(services: Services, job: Job, preamble: bytes) -> JobEvents:
    find_cost = partial(services.cost_cache.at_end, job)
    return JobEvents(job.id, find_cost, preamble, job.spec.trace_id)


def _cursor(job: Job, cursors: dict[str, str | None]) -> int:
    """Return the first cursor present, in the order that Mercure defines; 0 without one.

    Raises:
        InvalidCursor: The cursor is not a number, or is beyond the end of the log.
    """
    for name, text in cursors.items():
        if text is None or (text == "" and name == "Last-Event-ID"):
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= SEQ_DIGITS):
            raise InvalidCursor(f"{name}: expected the number of an event", param=name)
        try:
            check_cursor(int(text), job.seq)
        except InvalidJob as error:
            raise InvalidCursor(f"{name}: {error.message}", param=name) from None
        return int(text)
    return 0


async def _first_seq(services: Services, job: Job, after: int) -> int | None:
    """Return the number of the first stored event after the cursor; None if none was written yet.

    If the log's end was deleted, return the number that would come next.
    """
    if after >= job.seq:
        return None
    events = await services.store.read_log(job.id, after, 1)
    return events[0].seq if events else job.seq + 1


def _truncated(services: Services, job: Job, after: int, first: int, retry: bytes) -> Response:
    """Stream the remaining events, after a header and an event that name the missing ones."""
    headers = {"Last-Event-ID": str(first - 1)}
    missing = {"requested_after": after, "first_available": first, "sequence_number": first - 1}
    preamble = retry + frame(orjson.dumps(missing), event=EventType.REPLAY_TRUNCATED, seq=first - 1)
    if job.status.is_terminal and first > job.seq:
        done = done_event(job.id, job.status, job.spec.trace_id)
        return Response(preamble + done, 200, HEADERS | headers)
    watched = WatchedJob.of(job, first - 1)
    return EventStream(services, watched, _view(services, job, preamble), headers=headers)
