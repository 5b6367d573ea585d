"""Anthropic's Messages API; a message is another view of a chat completion's job."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_responses, stream_responses
from api.streaming.job_response import JobFormat, respond_with_job
from intake.admission import AdmissionRequest, admit
from intake.message_chat import chat_of
from intake.preferences import disconnect_policy, read_preferences
from wire.schemas.chat import ChatRequest
from wire.schemas.messages import MessagesRequest
from wire.schemas.validation import check_request
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
