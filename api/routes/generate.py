"""Routes that generate text from a prompt, with the simplest request and response."""

import time
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_responses, stream_responses
from api.streaming.job_response import JobFormat, respond_with_job
from core.errors import ModelNotFound
from intake.admission import AdmissionRequest, admit
from intake.preferences import disconnect_policy, read_preferences
from intake.services import Services
from jobs.job import Job
from wire.schemas.completions import CompletionRequest
from wire.schemas.generate import GenerateRequest
from wire.schemas.validation import check
from wire.views.generate import GenerateEvents, generated

router = APIRouter(prefix="/v1/generate", tags=["generate"], route_class=FastRoute)

RESPONSES = {
    **job_responses(202),
    **error_responses(400, 401, 402, 404, 409, 413, 422, 429, 500, 503, 504),
}


@router.post(
    "",
    openapi_extra=body_of(GenerateRequest),
    responses={**stream_responses(), **RESPONSES},
)
async def generate(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Generate text from a prompt; with `stream` as `/v1/generate/stream`."""
    return await _answer(request, caller, services, streaming=False)


@router.post(
    "/stream",
    openapi_extra=body_of(GenerateRequest),
    responses={**stream_responses(), **RESPONSES},
)
async def generate_stream(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Stream text while it is generated."""
    return await _answer(request, caller, services, streaming=True)


async def _answer(
    request: Request, caller: Caller, services: Services, *, streaming: bool
) -> Response:
    started = time.monotonic()
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    parsed = check(GenerateRequest, await read_object(request))
    body = parsed.as_completion(parsed.model or await _first_model(services))
    admission_request = AdmissionRequest(
        url="/v1/completions",
        body=body,
        checked=CompletionRequest.model_construct(**body),
        request_id=request.state.request_id,
        address=request.state.limited_address,
        preferences=preferences,
        on_disconnect=disconnect_policy(preferences),
        watched=not preferences.respond_async,
    )
    admission = await admit(services, caller, admission_request)
    streams = streaming or parsed.stream
    job_format = JobFormat(
        whole=lambda job, result, cost: generated(
            parsed.prompt, result, started, cost, job.spec.trace_id
        ),
        stream=partial(_events, services, started) if streams else None,
    )
    return await respond_with_job(services, request, admission, preferences, job_format)


def _events(services: Services, started: float, job: Job) -> GenerateEvents:
    find_cost = partial(services.cost_cache.at_end, job)
    return GenerateEvents(job.id, started, find_cost, job.spec.trace_id)


async def _first_model(services: Services) -> str:
    models = await services.models.all()
    if not models:
        raise ModelNotFound("No model is served yet: start a worker", param="model")
    return models[0].name
