"""Routes for jobs."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.error_handlers import problem_response
from api.http.fast_route import FastRoute
from api.http.json_responses import accepted, job_headers, json_response, just_accepted
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_page_responses, job_responses
from api.streaming.disconnect import ClientDisconnect
from intake import job_retry
from intake.admission import AdmissionRequest, admit
from intake.lookup.job_lookup import FoundJob, erase_job, find_job
from intake.preferences import NO_PREFERENCES, read_preferences
from intake.responses.response_chat import as_chat
from intake.services import Services
from intake.submission import Admission
from intake.waiting import wait_end
from jobs.job import Job
from jobs.status import Status
from wire import error_bodies
from wire.errors import ResultNotReady
from wire.schemas.jobs import BODIES, JobRequest
from wire.schemas.responses import ResponseRequest
from wire.schemas.validation import check, check_request
from wire.views.job import UNKNOWN_PLACE, job_object, result_object
from wire.views.page import list_page

submissions = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=FastRoute)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Wait = Annotated[float, Query(ge=0, le=60, description="seconds to wait for the job to end")]
Limit = Annotated[int, Query(ge=1, le=100)]


@submissions.post(
    "",
    status_code=202,
    openapi_extra=body_of(JobRequest),
    responses={
        **job_responses(200, 202),
        **error_responses(400, 401, 402, 404, 413, 422, 429, 503),
    },
)
async def submit_job(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Submit a job. 200 if it ended within `Prefer: wait`, else 202."""
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    body = await read_object(request)
    parsed = check(JobRequest, body)
    checked, content = check_request(BODIES[parsed.url], parsed.body, "body")
    response_options = None
    if isinstance(checked, ResponseRequest):
        content, response_options = await as_chat(services, caller.account, checked)
    admission = await admit(
        services,
        caller,
        AdmissionRequest(
            url=parsed.url,
            body=content,
            checked=checked,
            request_id=request.state.request_id,
            address=request.state.limited_address,
            preferences=preferences,
            on_disconnect=preferences.on_disconnect or parsed.on_disconnect,
            service_tier=parsed.service_tier,
            metadata=parsed.metadata,
            deadline=parsed.deadline,
            start_by=parsed.start_by,
            webhook=None if parsed.webhook is None else parsed.webhook.as_spec(),
            watched=bool(preferences.wait_seconds),
            response=response_options,
        ),
    )
    headers = job_headers(admission.accepted, preferences)
    if not (preferences.wait_seconds or admission.replayed):
        return just_accepted(admission, headers)
    job = await _current(services, admission)
    if preferences.wait_seconds and not job.status.is_terminal:
        job = await wait_end(
            services,
            ClientDisconnect(request.receive),
            job,
            preferences.wait_seconds,
            leaving_counts=True,
        )
    if preferences.wait_seconds and job.status.is_terminal:
        return await job_response(services, FoundJob(job), headers=headers)
    return accepted(job, headers)


@router.get("", responses={**job_page_responses(), **error_responses(400, 401, 422, 503)})
async def list_jobs(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    status: Status | None = None,
) -> Response:
    """List this account's jobs, newest first."""
    jobs = await services.store.list_jobs(
        caller.account,
        limit=limit + 1,
        before=None if after is None else check_list_cursor(after),
        status=status,
    )
    found = await asyncio.gather(*(services.store.place(job) for job in jobs[:limit]))
    places = {job.id: place for job, place in zip(jobs, found, strict=False)}
    shown = list_page(
        jobs, limit, lambda job: job_object(job, services.cost_cache.of(job), places[job.id])
    )
    return json_response(shown)


@router.get(
    "/{job_id}", responses={**job_responses(200), **error_responses(401, 404, 410, 422, 503)}
)
async def read_job(
    request: Request, job_id: str, caller: CurrentCaller, services: AppServices, wait: Wait = 0
) -> Response:
    """Return a job. With `wait`, respond when it has ended or the time is up."""
    found = await find_job(services, job_id, caller.account)
    seconds = min(wait, services.settings.limits.wait_seconds)
    if seconds and not found.job.status.is_terminal:
        found = FoundJob(
            await wait_end(services, ClientDisconnect(request.receive), found.job, seconds)
        )
    return await job_response(services, found)


@router.get("/{job_id}/result", responses=error_responses(401, 404, 409, 410, 500, 503, 504))
async def read_job_result(
    request: Request, job_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Return a job's result as an OpenAI object."""
    found = await find_job(services, job_id, caller.account)
    job = found.job
    if job.status is Status.COMPLETED:
        cost = services.cost_cache.of(job)
        result = result_object(job, await found.result(services), cost.cost)
        return json_response(result, headers=cost.headers)
    if job.status in (Status.FAILED, Status.EXPIRED):
        return problem_response(
            error_bodies.from_ending(job.status, job.error, job.id), request.scope
        )
    raise ResultNotReady(f"Job {job.id} is {job.status}")


@router.post(
    "/{job_id}/cancel", responses={**job_responses(200, 202), **error_responses(401, 404, 410, 503)}
)
async def cancel_job(job_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Cancel a job. 202 while it is being stopped. Repeating it changes nothing."""
    answer = await services.store.cancel(job_id, caller.account)
    job = await services.store.get(job_id, caller.account)
    stopping = answer == "cancelling" and not job.status.is_terminal
    return await job_response(services, FoundJob(job), 202 if stopping else 200)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    responses={**job_responses(202), **error_responses(401, 402, 404, 409, 410, 429, 503)},
)
async def retry_job(
    request: Request, job_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Retry a failed, expired or cancelled job as a new job with `retry_of`."""
    job = await services.store.get(job_id, caller.account)
    return await respond_with_retry(request, services, caller, job)


@router.delete("/{job_id}", status_code=204, responses=error_responses(401, 404, 409, 410, 503))
async def delete_job(job_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Delete a finished job and its events. Its usage stays billed."""
    await erase_job(services, job_id, caller.account)
    return Response(status_code=204)


async def respond_with_retry(
    request: Request, services: Services, caller: Caller, job: Job
) -> Response:
    """Run a job again and respond with the new job."""
    state = request.state
    admission = await job_retry.retry_job(
        services, caller, job, state.request_id, state.limited_address
    )
    again = await _current(services, admission)
    return accepted(again, job_headers(admission.accepted, NO_PREFERENCES))


async def _current(services: Services, admission: Admission) -> Job:
    """Return the job's record; read it only if the submission was a replay."""
    if not admission.replayed:
        return admission.job
    return await services.store.get(admission.job.id, admission.job.account)


async def job_response(
    services: Services, found: FoundJob, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Respond with the job object: with result and cost, or with queue position and ETA."""
    job, cost = found.job, services.cost_cache.of(found.job)
    if job.status is Status.COMPLETED:
        result = result_object(job, await found.result(services), cost.cost)
        shown = job_object(job, cost, UNKNOWN_PLACE, result)
    else:
        shown = job_object(job, cost, await services.store.place(job))
    return json_response(shown, status, {**(headers or {}), **cost.headers})
