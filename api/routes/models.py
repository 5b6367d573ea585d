"""Routes for the served models."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.openapi.route_docs import error_responses
from intake.permissions import check_model
from jobs.model_registry import ServedModel

router = APIRouter(prefix="/v1/models", tags=["openai"])


@router.get("", responses=error_responses(401, 403, 503))
async def list_models(caller: CurrentCaller, services: AppServices) -> Response:
    """List the models that the caller may use, including those scaled to zero."""
    models = await services.models.all()
    allowed = [model for model in models if caller.models is None or model.name in caller.models]
    return json_response({"object": "list", "data": [_model_object(model) for model in allowed]})


@router.get("/{name:path}", responses=error_responses(401, 403, 404, 503))
async def read_model(name: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return one model."""
    check_model(caller, name)
    return json_response(_model_object(await services.models.get(name)))


def _model_object(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "penstock",
        "max_model_len": model.max_model_len,
    }
