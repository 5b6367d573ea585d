"""Anthropic's Messages API; a message is another view of a chat completion's job."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_responses, stream_responses
from api.streaming.disconnect import ClientDisconnect
from api.streaming.job_response import JobFormat, respond_with_job
from intake.admission import AdmissionRequest, admit
from intake.message_chat import chat_of, prompt_of
from intake.preferences import disconnect_policy, read_preferences
from intake.tokenisation import TokeniserQuestion, ask_tokeniser, check_count, find_model
from wire.schemas.chat import ChatRequest
from wire.schemas.messages import CountTokensRequest, MessagesRequest
from wire.schemas.validation import check_request
from wire.token_objects import token_count_object
from wire.views.message import MessageEvents, message_object

router = APIRouter(prefix="/v1/messages", tags=["anthropic"], route_class=FastRoute)

#: A message is stored, retried and shown at /v1/jobs as this kind of request.
URL = "/v1/chat/completions"

ANSWERS = {
    **stream_responses(),
    **job_responses(202),
    **error_responses(400, 401, 402, 404, 409, 413, 422, 429, 500, 503, 504),
}


@router.post("", openapi_extra=body_of(MessagesRequest), responses=ANSWERS)
async def create_message(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create a message. With `Prefer: respond-async`, respond with a job."""
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    parsed, _ = check_request(MessagesRequest, await read_object(request))
    checked, body = check_request(ChatRequest, chat_of(parsed))
    admission_request = AdmissionRequest(
        url=URL,
        body=body,
        checked=checked,
        request_id=request.state.request_id,
        address=request.state.limited_address,
        preferences=preferences,
        on_disconnect=disconnect_policy(preferences),
        watched=not preferences.respond_async,
    )
    admission = await admit(services, caller, admission_request)
    thinking = parsed.thinking is not None and parsed.thinking.type != "disabled"
    job_format = JobFormat(
        whole=lambda job, result, _: message_object(job, result, thinking=thinking),
        stream=(lambda job: MessageEvents(job, thinking=thinking)) if parsed.stream else None,
    )
    return await respond_with_job(services, request, admission, preferences, job_format)


@router.post(
    "/count_tokens",
    openapi_extra=body_of(CountTokensRequest),
    responses=error_responses(400, 401, 404, 413, 422, 429, 500, 503),
)
async def count_tokens(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Count the input tokens that a message would have. It costs nothing."""
    parsed, _ = check_request(CountTokensRequest, await read_object(request))
    checked, body = check_request(ChatRequest, prompt_of(parsed))
    model = await find_model(services, caller, checked.model)
    check_count(services, checked, body, model)
    question = TokeniserQuestion(model, "count", body, request.state.limited_address)
    left = ClientDisconnect(request.receive)
    answer = await ask_tokeniser(services, caller, question, left)
    return json_response(token_count_object(answer))
