"""The operator's routes for queues: list, pause, drain, close, resume, set, purge."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from intake.operations.queue_operations import change_queue_mode, purge_queue
from intake.services import Services
from jobs.store.queue_control import CLOSE, DRAIN, PAUSE, RESUME, ModeChange
from wire.schemas.queues import QueueChange
from wire.schemas.validation import check
from wire.views.queues import queue_object

router = APIRouter(prefix="/v1/admin/queues", tags=["queues"])

Model = Annotated[str, Path(description="name of the served model")]

QUEUE = {
    "type": "object",
    "required": ["object", "model", "mode", "ready", "running"],
    "description": "one queue, see docs/limits.md",
}
CONTENT = {"application/json": {"schema": QUEUE}}
ANSWER: Responses = {200: {"description": "the queue after the action", "content": CONTENT}}
REFUSALS = error_responses(401, 403, 404, 503)


@router.get("", responses=error_responses(401, 403, 503))
async def list_queues(caller: CurrentCaller, services: AppServices) -> Response:
    """List the queues of all models that a worker has ever served."""
    del caller
    names = await services.store.queues()
    return json_response(
        {
            "object": "list",
            "data": await asyncio.gather(*(_queue(services, name) for name in names)),
        }
    )


@router.post("/{model:path}/pause", responses={**ANSWER, **REFUSALS})
async def pause(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Pause: start no jobs. Running jobs continue; a queue that accepts jobs still accepts them."""
    return await _change(services, caller, model, "pause", PAUSE)


@router.post("/{model:path}/drain", responses={**ANSWER, **REFUSALS})
async def drain(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Drain: accept no new jobs. Running jobs continue; waiting jobs start unless it is paused."""
    return await _change(services, caller, model, "drain", DRAIN)


@router.post("/{model:path}/close", responses={**ANSWER, **REFUSALS})
async def close(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Close: accept no new jobs and start none. Running jobs continue."""
    return await _change(services, caller, model, "close", CLOSE)


@router.post("/{model:path}/resume", responses={**ANSWER, **REFUSALS})
async def resume(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Open a paused, draining or closed queue."""
    return await _change(services, caller, model, "resume", RESUME)


@router.patch(
    "/{model:path}",
    openapi_extra=body_of(QueueChange),
    responses={**ANSWER, **error_responses(400, 401, 403, 404, 413, 422, 503)},
)
async def set_mode(
    request: Request, model: Model, caller: CurrentCaller, services: AppServices
) -> Response:
    """Set the mode, whatever it was."""
    parsed = check(QueueChange, await read_object(request))
    return await _change(services, caller, model, "set", ModeChange.to(parsed.mode))


@router.post("/{model:path}/purge", responses={**ANSWER, **REFUSALS})
async def purge(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Cancel all waiting jobs. If `complete` is false, repeat the request for the rest."""
    purged = await purge_queue(services, caller, model)
    state = await _queue(services, model)
    return json_response(state | {"cancelled": purged.cancelled, "complete": purged.complete})


async def _change(
    services: Services, caller: Caller, model: str, action: str, change: ModeChange
) -> Response:
    await change_queue_mode(services, caller, model, action, change)
    return json_response(await _queue(services, model))


async def _queue(services: Services, model: str) -> dict[str, Any]:
    note, state = await asyncio.gather(
        services.store.control.mode(model), services.store.observe(model)
    )
    return queue_object(model, note, state)
