"""The operator's routes for queues: list, pause, drain, resume, purge."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.openapi.route_docs import Responses, error_responses
from intake.operations.queue_operations import purge_queue, set_queue_mode
from intake.services import Services
from jobs.store.queue_control import QueueMode
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
    """Pause: start no jobs. Running jobs continue and new jobs are accepted."""
    return await _change(services, caller, model, QueueMode.PAUSED)


@router.post("/{model:path}/drain", responses={**ANSWER, **REFUSALS})
async def drain(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Drain: accept no new jobs. Waiting and running jobs continue."""
    return await _change(services, caller, model, QueueMode.DRAINING)


@router.post("/{model:path}/resume", responses={**ANSWER, **REFUSALS})
async def resume(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Resume a paused or draining queue."""
    return await _change(services, caller, model, QueueMode.OPEN)


@router.post("/{model:path}/purge", responses={**ANSWER, **REFUSALS})
async def purge(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Cancel all waiting jobs. If `complete` is false, repeat the request for the rest."""
    purged = await purge_queue(services, caller, model)
    state = await _queue(services, model)
    return json_response(state | {"cancelled": purged.cancelled, "complete": purged.complete})


async def _change(services: Services, caller: Caller, model: str, mode: QueueMode) -> Response:
    await set_queue_mode(services, caller, model, mode)
    return json_response(await _queue(services, model))


async def _queue(services: Services, model: str) -> dict[str, Any]:
    note, state = await asyncio.gather(
        services.store.control.mode(model), services.store.observe(model)
    )
    return queue_object(model, note, state)
