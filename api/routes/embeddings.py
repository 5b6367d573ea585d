"""The route for OpenAI's embeddings."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses, job_responses
from api.streaming.job_response import JobFormat, respond_with_job
from intake.admission import AdmissionRequest, admit
from intake.preferences import disconnect_policy, read_preferences
from intake.request_checks import EMBEDDINGS
from wire.schemas.embeddings import EmbeddingRequest
from wire.schemas.validation import check_request
from wire.views.embeddings import embeddings

router = APIRouter(prefix="/v1/embeddings", tags=["openai"], route_class=FastRoute)

ANSWERS = {
    **job_responses(202),
    **error_responses(400, 401, 402, 404, 409, 413, 422, 429, 500, 503, 504),
}


@router.post("", openapi_extra=body_of(EmbeddingRequest), responses=ANSWERS)
async def create_embedding(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create embeddings of texts. With `Prefer: respond-async`, respond with a job."""
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    parsed, body = check_request(EmbeddingRequest, await read_object(request))
    admission_request = AdmissionRequest(
        url=EMBEDDINGS,
        body=body,
        checked=parsed,
        request_id=request.state.request_id,
        address=request.state.limited_address,
        preferences=preferences,
        on_disconnect=disconnect_policy(preferences),
        watched=not preferences.respond_async,
    )
    admission = await admit(services, caller, admission_request)
    whole = partial(embeddings, as_base64=parsed.encoding_format == "base64")
    return await respond_with_job(services, request, admission, preferences, JobFormat(whole, None))
