"""Routes for OpenAI's Responses API; a response is another view of a job."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.json_responses import job_headers, json_response
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_responses, stream_responses
from api.streaming.disconnect import ClientDisconnect
from api.streaming.event_stream import EventStream
from api.streaming.job_response import JobFormat, respond_with_job
from core.errors import JobGone
from intake.admission import AdmissionRequest, admit
from intake.lookup.job_lookup import FoundJob, erase_job
from intake.preferences import Preferences, disconnect_policy, read_preferences
from intake.responses.conversation import to_items
from intake.responses.response_chat import FIELDS, as_chat
from intake.responses.response_lookup import find_response
from intake.services import Services
from intake.tokenisation import TokeniserQuestion, ask_tokeniser, check_count, find_model
from intake.waiting import wait_end
from intake.watched_job import WatchedJob
from jobs.job import Job, OnDisconnect
from jobs.result import JobResult
from wire.errors import InvalidCursor
from wire.schemas.responses import ResponseRequest
from wire.schemas.validation import check_request
from wire.token_objects import response_tokens_object
from wire.views.page import list_page
from wire.views.response import response_id, whole_response
from wire.views.response_events import ResponseEvents

creation = APIRouter(prefix="/v1/responses", tags=["openai"], route_class=FastRoute)
router = APIRouter(prefix="/v1/responses", tags=["openai"])

URL = "/v1/responses"
#: Longest wait for a cancelled job to end; engines stop a job within one step.
CANCEL_SECONDS = 5.0

ANSWERS = {
    **stream_responses(),
    **job_responses(202),
    **error_responses(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 503, 504),
}

After = Annotated[int | None, Query(ge=0, description="resume after this `sequence_number`")]
Include = Annotated[list[str] | None, Query(description="has no effect: everything is included")]


@creation.post("", openapi_extra=body_of(ResponseRequest), responses=ANSWERS)
async def create_response(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create a response. With `Prefer: respond-async`, respond with a job."""
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    parsed, _ = check_request(ResponseRequest, await read_object(request))
    admission = await admit(
        services, caller, await _admission_request(services, caller, request, parsed, preferences)
    )
    if parsed.background and not parsed.stream and not preferences.accepts_job:
        job = admission.job
        headers = job_headers(admission.accepted, preferences)
        if admission.replayed:
            found = await find_response(services, response_id(job.id), caller.account)
            return await _answer(services, found, headers)
        return json_response(whole_response(job, JobResult()), headers=headers)
    job_format = JobFormat(
        whole_response,
        partial(_events, services) if parsed.stream else None,
        FIELDS,
        opens_at_once=bool(parsed.background),
    )
    return await respond_with_job(services, request, admission, preferences, job_format)


@creation.post(
    "/input_tokens",
    openapi_extra=body_of(ResponseRequest),
    responses=error_responses(400, 401, 404, 413, 422, 429, 500, 503),
)
async def count_input_tokens(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Count the input tokens that a response would have. It costs nothing."""
    parsed, _ = check_request(ResponseRequest, await read_object(request))
    model = await find_model(services, caller, parsed.model)
    body, _ = await as_chat(services, caller.account, parsed)
    check_count(services, parsed, body, model)
    question = TokeniserQuestion(model, "count", body, request.state.limited_address, FIELDS)
    answer = await ask_tokeniser(services, caller, question, ClientDisconnect(request.receive))
    return json_response(response_tokens_object(answer))


async def _admission_request(
    services: Services,
    caller: Caller,
    request: Request,
    parsed: ResponseRequest,
    preferences: Preferences,
) -> AdmissionRequest:
    """Convert the request into a chat job."""
    body, response = await as_chat(services, caller.account, parsed)
    on_disconnect: OnDisconnect = disconnect_policy(preferences)
    if parsed.background and preferences.on_disconnect is None:
        on_disconnect = "continue"
    return AdmissionRequest(
        url=URL,
        body=body,
        checked=parsed,
        request_id=request.state.request_id,
        address=request.state.limited_address,
        preferences=preferences,
        on_disconnect=on_disconnect,
        watched=bool(parsed.stream) or not (parsed.background or preferences.respond_async),
        response=response,
    )


@router.get(
    "/{response_id}", responses={**stream_responses(), **error_responses(400, 401, 403, 404, 503)}
)
async def read_response(
    response_id: str,
    caller: CurrentCaller,
    services: AppServices,
    stream: bool = False,
    starting_after: After = None,
    include: Include = None,
    include_obfuscation: bool | None = None,
) -> Response:
    """Return a response, or stream its events, from the start or after a number."""
    del include, include_obfuscation
    found = await find_response(services, response_id, caller.account)
    if not stream:
        return await _answer(services, found, {})
    job = found.job
    if not await _has_complete_log(services, found):
        raise JobGone(f"The events of {response_id} are no longer stored; read it without stream")
    watched = WatchedJob.of(job)
    after = -1 if starting_after is None else starting_after
    return EventStream(services, watched, _events(services, job, after))


@router.post("/{response_id}/cancel", responses=error_responses(401, 403, 404, 503))
async def cancel_response(
    request: Request, response_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Cancel a response. Nothing changes if it has ended or was cancelled already."""
    found = await find_response(services, response_id, caller.account)
    if found.archived is None:
        await services.store.cancel(found.job.id, caller.account)
        job = await services.store.get(found.job.id, caller.account)
        if not job.status.is_terminal:
            job = await wait_end(services, ClientDisconnect(request.receive), job, CANCEL_SECONDS)
        found = FoundJob(job)
    return await _answer(services, found, {})


@router.delete("/{response_id}", responses=error_responses(401, 403, 404, 409, 503))
async def delete_response(
    response_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Delete a response that has ended. Its usage stays billed."""
    found = await find_response(services, response_id, caller.account)
    await erase_job(services, found.job.id, caller.account)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.get("/{response_id}/input_items", responses=error_responses(400, 401, 403, 404, 503))
async def list_input_items(
    response_id: str,
    caller: CurrentCaller,
    services: AppServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    include: Include = None,
) -> Response:
    """List the input of a response: the conversation before it, without instructions."""
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
    raise InvalidCursor("after: expected the id of one of this response's items", param="after")


def _events(services: Services, job: Job, after: int = -1) -> ResponseEvents:
    return ResponseEvents(job, partial(services.cost_cache.at_end, job), after)


async def _answer(services: Services, found: FoundJob, headers: dict[str, str]) -> Response:
    job = found.job
    cost = services.cost_cache.of(job)
    result = await found.result(services) if job.status.is_terminal else JobResult()
    shown = whole_response(job, result, cost.cost)
    return json_response(shown, headers={**headers, **cost.headers, "X-Penstock-Job": job.id})


async def _has_complete_log(services: Services, found: FoundJob) -> bool:
    """Return whether the log has its first event, which the numbers of a stream depend on."""
    if found.archived is not None:
        return False
    if not found.job.seq:
        return True
    events = await services.store.read_log(found.job.id, 0, 1)
    return bool(events) and events[0].seq == 1
