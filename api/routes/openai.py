"""Routes for OpenAI's chat and text completions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_responses, stream_responses
from api.streaming.job_response import JobFormat, respond_with_job
from billing.pricing.rating import Cost
from intake.admission import AdmissionRequest, admit
from intake.function_chat import OLD_NAMES, has_functions
from intake.preferences import Preferences, disconnect_policy, read_preferences
from intake.services import Services
from jobs.result import JobResult
from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.sampling import Sampling
from wire.schemas.validation import check_request
from wire.views.chat import ChatChunks, chat_completion
from wire.views.chunks import ChunkOptions, Chunks, CompletionHead
from wire.views.completion import CompletionChunks, completion

router = APIRouter(prefix="/v1", tags=["openai"], route_class=FastRoute)

ANSWERS = {
    **stream_responses(),
    **job_responses(202),
    **error_responses(400, 401, 402, 404, 409, 413, 422, 429, 500, 503, 504),
}


@dataclass(frozen=True, slots=True)
class CompletionEndpoint:
    """One of OpenAI's two completion routes: its schema and views."""

    url: str
    schema: type[Sampling]
    whole: Callable[[CompletionHead, JobResult, Cost | None], dict[str, Any]]
    chunks: type[Chunks]


CHAT = CompletionEndpoint("/v1/chat/completions", ChatRequest, chat_completion, ChatChunks)
TEXT = CompletionEndpoint("/v1/completions", CompletionRequest, completion, CompletionChunks)


@router.post("/chat/completions", openapi_extra=body_of(ChatRequest), responses=ANSWERS)
async def create_chat_completion(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create a chat completion. With `Prefer: respond-async`, respond with a job."""
    return await _answer(request, caller, services, CHAT)


@router.post("/completions", openapi_extra=body_of(CompletionRequest), responses=ANSWERS)
async def create_completion(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create a text completion. With `Prefer: respond-async`, respond with a job."""
    return await _answer(request, caller, services, TEXT)


async def _answer(
    request: Request, caller: Caller, services: Services, endpoint: CompletionEndpoint
) -> Response:
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    checked, body = check_request(endpoint.schema, await read_object(request))
    admission_request = AdmissionRequest(
        url=endpoint.url,
        body=body,
        checked=checked,
        request_id=request.state.request_id,
        address=request.state.limited_address,
        preferences=preferences,
        on_disconnect=disconnect_policy(preferences),
        watched=not preferences.respond_async,
    )
    admission = await admit(services, caller, admission_request)
    options = _chunk_options(checked, preferences)
    job_format = JobFormat(
        whole=lambda job, result, cost: endpoint.whole(CompletionHead.of(job), result, cost),
        stream=(
            lambda job: endpoint.chunks(
                CompletionHead.of(job), options, partial(services.cost_cache.at_end, job)
            )
        )
        if checked.stream
        else None,
        fields=OLD_NAMES if has_functions(body) else {},
    )
    return await respond_with_job(services, request, admission, preferences, job_format)


def _chunk_options(checked: Sampling, preferences: Preferences) -> ChunkOptions:
    """Return what the stream shows; events are numbered for clients that mean to resume it."""
    asked = checked.stream_options
    usage = bool(asked and asked.include_usage)
    return ChunkOptions(
        usage=usage,
        running_usage=usage and bool(asked and asked.continuous_usage_stats),
        numbered=preferences.event_ids or bool(preferences.idempotency_key),
    )
