"""Routes for batches."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses
from api.security.authentication import caller_field
from batches import creation, repository
from batches.creation import BatchOwner
from intake.preferences import read_preferences
from wire.schemas.batches import BatchRequest
from wire.schemas.validation import check
from wire.views.batches import batch_object
from wire.views.page import list_page

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post(
    "",
    openapi_extra=body_of(BatchRequest),
    responses=error_responses(400, 401, 403, 404, 413, 422, 429, 503),
)
async def create_batch(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Create a batch. Its file is validated line by line, then run."""
    parsed = check(BatchRequest, await read_object(request))
    created = await creation.create_batch(
        services,
        BatchOwner(caller.account, caller_field(request, caller)),
        parsed,
        read_preferences(request.headers, 0).idempotency_key,
    )
    row = await repository.find_batch(services.database, created.batch_id, caller.account)
    headers = {"Idempotency-Replayed": "true"} if created.replayed else {}
    return json_response(batch_object(row), headers=headers)


@router.get("", responses=error_responses(400, 401, 403, 503))
async def list_batches(
    caller: CurrentCaller,
    services: AppServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
) -> Response:
    """List this account's batches, newest first."""
    before = None if after is None else check_list_cursor(after, "batch")
    found = await repository.list_batches(
        services.database, caller.account, limit=limit + 1, after=before
    )
    return json_response(list_page(found, limit, batch_object))


@router.get("/{batch_id}", responses=error_responses(401, 403, 404, 503))
async def read_batch(batch_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a batch with its progress."""
    return json_response(
        batch_object(await repository.find_batch(services.database, batch_id, caller.account))
    )


@router.post("/{batch_id}/cancel", responses=error_responses(401, 403, 404, 409, 503))
async def cancel_batch(batch_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Cancel a batch. Results so far are in its output file. Repeating it changes nothing."""
    return json_response(
        batch_object(await repository.request_cancel(services.database, batch_id, caller.account))
    )
