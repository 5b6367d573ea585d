"""Which models are served."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.deps import Api, Caller
from api.documents import refusals
from api.responses import json_response
from jobs.models import ServedModel

router = APIRouter(prefix="/v1/models", tags=["openai"])


@router.get("", responses=refusals(401, 503))
async def list_models(key: Caller, api: Api) -> Response:
    """List the models, also those whose workers are scaled to zero."""
    del key
    models = await api.models.all()
    return json_response({"object": "list", "data": [_model_object(model) for model in models]})


@router.get("/{name:path}", responses=refusals(401, 404, 503))
async def read_model(name: str, key: Caller, api: Api) -> Response:
    """Return one model."""
    del key
    return json_response(_model_object(await api.models.get(name)))


def _model_object(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "penstock",
        "max_model_len": model.max_model_len,
    }
