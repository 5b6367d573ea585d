"""OpenAI's embeddings: jobs like all others, for models that embed."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Api, CurrentCaller
from api.fast_route import DirectRoute
from api.openapi.route_docs import body_of, job_answer, refusals
from api.request_body import read_object
from api.streaming.job_response import Form, deliver, policy
from intake.admission import EMBEDDINGS, AdmissionRequest, admit
from intake.preferences import read_preferences
from wire.schemas.embeddings import EmbeddingRequest
from wire.schemas.validation import check
from wire.views.embeddings import embeddings

router = APIRouter(prefix="/v1/embeddings", tags=["openai"], route_class=DirectRoute)

ANSWERS = {
    **job_answer(202),
    **refusals(400, 401, 402, 404, 409, 413, 422, 429, 500, 503, 504),
}


@router.post("", openapi_extra=body_of(EmbeddingRequest), responses=ANSWERS)
async def create_embedding(request: Request, key: CurrentCaller, api: Api) -> Response:
    """Return the vectors of some texts, or a job that makes them (`Prefer`)."""
    preferences = read_preferences(request.headers, api.settings.limits.wait_seconds)
    body = await read_object(request)
    asked = check(EmbeddingRequest, body)
    wish = AdmissionRequest(
        url=EMBEDDINGS,
        body=body,
        checked=asked,
        request_id=request.state.request_id,
        preferences=preferences,
        on_disconnect=policy(preferences),
        watched=not preferences.respond_async,
    )
    admitted = await admit(api, key, wish)
    whole = partial(embeddings, as_base64=asked.encoding_format == "base64")
    return await deliver(api, request, admitted, preferences, Form(whole, None))
