"""OpenAI's Responses API: the same jobs in the same queue, seen as responses."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.deps import AppServices, CurrentCaller
from api.fast_route import FastRoute
from api.json_responses import job_headers, json_response
from api.openapi.route_docs import body_of, event_stream, job_answer, refusals
from api.request_body import read_object
from api.streaming.disconnect import ClientDisconnect
from api.streaming.event_stream import EventStream
from api.streaming.job_response import JobFormat, deliver
from core.errors import JobGone
from intake.admission import AdmissionRequest, admit
from intake.conversation import to_items
from intake.job_lookup import FoundJob, erase_job
from intake.preferences import Preferences, disconnect_policy, read_preferences
from intake.response_chat import FIELDS, as_chat, find_response
from intake.services import Services
from intake.waiting import wait_end
from intake.watched_job import WatchedJob
from jobs.job import Job, OnDisconnect
from jobs.result import JobResult
from wire.errors import InvalidCursor
from wire.schemas.responses import ResponseRequest
from wire.schemas.validation import check
from wire.views.page import list_page
from wire.views.response import response_id, whole_response
from wire.views.response_events import ResponseEvents

creation = APIRouter(prefix="/v1/responses", tags=["openai"], route_class=FastRoute)
router = APIRouter(prefix="/v1/responses", tags=["openai"])

URL = "/v1/responses"
#: An engine lets go of a job within a step; a client that cancels sees the end.
CANCEL_SECONDS = 5.0

ANSWERS = {
    **event_stream(),
    **job_answer(202),
    **refusals(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 504),
}

After = Annotated[int | None, Query(ge=0, description="go on after this `sequence_number`")]
Include = Annotated[list[str] | None, Query(description="has no effect: nothing is left out")]


@creation.post("", openapi_extra=body_of(ResponseRequest), responses=ANSWERS)
async def create_response(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Answer a conversation: whole, streamed, in the background, or as a job (`Prefer`)."""
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    parsed = check(ResponseRequest, await read_object(request))
    admitted = await admit(
        services, caller, await response_wish(services, caller, request, parsed, preferences)
    )
    if parsed.background and not parsed.stream and not preferences.hands_over:
        job = admitted.job
        headers = job_headers(admitted.accepted, preferences)
        if admitted.replayed:
            found = await find_response(services, response_id(job.id), caller.account)
            return await _answer(services, found, headers)
        return json_response(whole_response(job, JobResult()), headers=headers)
    form = JobFormat(whole_response, partial(_events, services) if parsed.stream else None, FIELDS)
    return await deliver(services, request, admitted, preferences, form)


async def response_wish(
    services: Services,
    caller: Caller,
    request: Request,
    parsed: ResponseRequest,
    preferences: Preferences,
) -> AdmissionRequest:
    """Return what to submit for a response."""
    body, kept = await as_chat(services, caller.account, parsed)
    leaving: OnDisconnect = disconnect_policy(preferences)
    if parsed.background and preferences.on_disconnect is None:
        leaving = "continue"
    return AdmissionRequest(
        url=URL,
        body=body,
        checked=parsed,
        request_id=request.state.request_id,
        preferences=preferences,
        on_disconnect=leaving,
        watched=bool(parsed.stream) or not (parsed.background or preferences.respond_async),
        response=kept,
    )


@router.get("/{response_id}", responses={**event_stream(), **refusals(400, 401, 403, 404, 503)})
async def read_response(
    response_id: str,
    caller: CurrentCaller,
    services: AppServices,
    stream: bool = False,
    starting_after: After = None,
    include: Include = None,
    include_obfuscation: bool | None = None,
) -> Response:
    """Return a response, or its events from the first or after a number."""
    del include, include_obfuscation
    found = await find_response(services, response_id, caller.account)
    if not stream:
        return await _answer(services, found, {})
    job = found.job
    if not await _has_whole_log(services, found):
        raise JobGone(f"the events of {response_id} are kept no longer; read it without stream")
    watched = WatchedJob.of(job)
    after = -1 if starting_after is None else starting_after
    return EventStream(services, watched, _events(services, job, after))


@router.post("/{response_id}/cancel", responses=refusals(401, 403, 404, 503))
async def cancel_response(
    request: Request, response_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Stop a response; repeating it, or stopping one that has ended, changes nothing."""
    found = await find_response(services, response_id, caller.account)
    if found.archived is None:
        await services.store.cancel(found.job.id, caller.account)
        job = await services.store.get(found.job.id, caller.account)
        if not job.status.is_terminal:
            job = await wait_end(services, ClientDisconnect(request.receive), job, CANCEL_SECONDS)
        found = FoundJob(job)
    return await _answer(services, found, {})


@router.delete("/{response_id}", responses=refusals(401, 403, 404, 409, 503))
async def delete_response(
    response_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Erase a response that has ended; what it used stays billed."""
    found = await find_response(services, response_id, caller.account)
    await erase_job(services, found.job.id, caller.account)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.get("/{response_id}/input_items", responses=refusals(400, 401, 403, 404, 503))
async def list_input_items(
    response_id: str,
    caller: CurrentCaller,
    services: AppServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(description="`last_id` of an earlier page")] = None,
    include: Include = None,
) -> Response:
    """List what a response answered: the whole conversation before it, without instructions."""
    del include
    job = (await find_response(services, response_id, caller.account)).job
    first = int((job.spec.response or {})["instructed"])
    items = to_items(job.spec.body["messages"][first:], job.id.removeprefix("job_"))
    if order == "desc":
        items.reverse()
    return json_response(list_page(_after(items, after), limit, dict))


def _after(items: list[dict[str, Any]], after: str | None) -> list[dict[str, Any]]:
    if after is None:
        return items
    for index, item in enumerate(items):
        if item["id"] == after:
            return items[index + 1 :]
    raise InvalidCursor("after: the id of one of this response's items is expected", param="after")


def _events(services: Services, job: Job, after: int = -1) -> ResponseEvents:
    return ResponseEvents(job, partial(services.cost_cache.at_end, job), after)


async def _answer(services: Services, found: FoundJob, headers: dict[str, str]) -> Response:
    job = found.job
    cost = services.cost_cache.of(job)
    result = await found.result(services) if job.status.is_terminal else JobResult()
    shown = whole_response(job, result, cost.cost)
    return json_response(shown, headers={**headers, **cost.headers, "X-Penstock-Job": job.id})


async def _has_whole_log(services: Services, found: FoundJob) -> bool:
    """Return whether a stream can begin at the beginning, which numbering needs."""
    if found.archived is not None:
        return False
    if not found.job.seq:
        return True
    events = await services.store.read_log(found.job.id, 0, 1)
    return bool(events) and events[0].seq == 1
