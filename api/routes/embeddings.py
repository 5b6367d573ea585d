"""OpenAI's embeddings: no engine here serves a model that embeds, and that is said by name."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.access import check_model
from api.deps import Api, Caller
from api.direct import DirectRoute
from api.documents import body_of, refusals
from api.errors import UnsupportedModel
from api.schemas.embeddings import EmbeddingRequest
from api.schemas.reading import check, read_object

router = APIRouter(prefix="/v1/embeddings", tags=["openai"], route_class=DirectRoute)


@router.post("", openapi_extra=body_of(EmbeddingRequest), responses=refusals(400, 401, 404, 503))
async def create_embedding(request: Request, key: Caller, api: Api) -> Response:
    """Refuse, once model and body are known to be right: every model here generates text."""
    asked = check(EmbeddingRequest, await read_object(request))
    check_model(key, asked.model)
    model = await api.models.get(asked.model)
    raise UnsupportedModel(
        f"model: {model.name!r} generates text, and has no embeddings", param="model"
    )
