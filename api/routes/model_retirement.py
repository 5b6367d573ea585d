"""The operator's routes for models: list retired ones, retire, restore."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from intake.operations.queue_operations import restore_model, retire_model
from wire.schemas.models import RetiredModelObject, Retirement
from wire.schemas.validation import check
from wire.views.models import retired_model_object

router = APIRouter(prefix="/v1/admin/models", tags=["queues"])

Model = Annotated[str, Path(description="name of the model")]
RETIRED: Responses = {200: {"model": RetiredModelObject}}


@router.get("", responses=error_responses(401, 403, 503))
async def list_retired(caller: CurrentCaller, services: AppServices) -> Response:
    """List the retired models, and those that still have jobs to end."""
    del caller
    found = await services.store.retirement.retired()
    return json_response({"object": "list", "data": [retired_model_object(row) for row in found]})


@router.post(
    "/{model:path}/retire",
    openapi_extra=body_of(Retirement),
    responses={**RETIRED, **error_responses(400, 401, 403, 404, 408, 409, 413, 422, 503)},
)
async def retire(
    request: Request, model: Model, caller: CurrentCaller, services: AppServices
) -> Response:
    """Retire a model: it is not listed any more and accepts nothing, whatever its workers say."""
    parsed = check(Retirement, await read_object(request))
    return json_response(
        retired_model_object(await retire_model(services, caller, model, parsed.jobs))
    )


@router.post(
    "/{model:path}/restore", status_code=204, responses=error_responses(401, 403, 404, 503)
)
async def restore(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """End a retirement: the model is known again as soon as a worker serves it."""
    await restore_model(services, caller, model)
    return Response(status_code=204)
