"""Text in, text out: for a first curl."""

import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.deps import Api, CurrentCaller
from api.fast_route import DirectRoute
from api.openapi.route_docs import body_of, event_stream, job_answer, refusals
from api.request_body import read_object
from api.streaming.job_response import Form, deliver, policy
from core.errors import ModelNotFound
from intake.admission import AdmissionRequest, admit
from intake.preferences import read_preferences
from intake.services import Services
from wire.schemas.completions import CompletionRequest
from wire.schemas.generate import GenerateRequest
from wire.schemas.validation import check
from wire.views.generate import GenerateEvents, generated

router = APIRouter(prefix="/v1/generate", tags=["generate"], route_class=DirectRoute)

REFUSALS = {
    **job_answer(202),
    **refusals(400, 401, 402, 404, 409, 413, 422, 429, 500, 503, 504),
}


@router.post("", openapi_extra=body_of(GenerateRequest), responses=REFUSALS)
async def generate(request: Request, key: CurrentCaller, api: Api) -> Response:
    """Return the generated text."""
    return await _answer(request, key, api, streaming=False)


@router.post(
    "/stream",
    openapi_extra=body_of(GenerateRequest),
    responses={**event_stream(), **REFUSALS},
)
async def generate_stream(request: Request, key: CurrentCaller, api: Api) -> Response:
    """Send the text as it comes."""
    return await _answer(request, key, api, streaming=True)


async def _answer(request: Request, key: Caller, api: Services, *, streaming: bool) -> Response:
    started = time.monotonic()
    preferences = read_preferences(request.headers, api.settings.limits.wait_seconds)
    asked = check(GenerateRequest, await read_object(request))
    body = asked.as_completion(asked.model or await _first_model(api))
    wish = AdmissionRequest(
        url="/v1/completions",
        body=body,
        checked=CompletionRequest.model_construct(**body),
        request_id=request.state.request_id,
        preferences=preferences,
        on_disconnect=policy(preferences),
        watched=not preferences.respond_async,
    )
    admitted = await admit(api, key, wish)
    form = Form(
        whole=lambda _job, result, _cost: generated(asked.prompt, result, started),
        stream=(lambda job: GenerateEvents(job.id, started)) if streaming else None,
    )
    return await deliver(api, request, admitted, preferences, form)


async def _first_model(api: Services) -> str:
    models = await api.models.all()
    if not models:
        raise ModelNotFound("no model is served yet: start a worker", param="model")
    return models[0].name
