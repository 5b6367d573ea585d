"""The operator's routes for queues: list, pause, drain, resume, purge."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from accounts.caller import Caller
from api.deps import AppServices, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import Responses, refusals
from intake.queue_operations import purge_queue, set_queue_mode
from intake.services import Services
from jobs.store.queue_control import QueueMode
from wire.views.queues import queue_object

router = APIRouter(prefix="/v1/admin/queues", tags=["queues"])

Model = Annotated[str, Path(description="the served model's name, which is its queue's")]

QUEUE = {
    "type": "object",
    "required": ["object", "model", "mode", "ready", "running"],
    "description": "one queue, see docs/limits.md",
}
CONTENT = {"application/json": {"schema": QUEUE}}
ANSWER: Responses = {200: {"description": "the queue as it is now", "content": CONTENT}}
REFUSALS = refusals(401, 403, 404, 503)


@router.get("", responses=refusals(401, 403, 503))
async def list_queues(caller: CurrentCaller, services: AppServices) -> Response:
    """List every queue a worker has ever served."""
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
    """Claim nothing more; what runs goes on, and jobs are still accepted."""
    return await _change(services, caller, model, QueueMode.PAUSED)


@router.post("/{model:path}/drain", responses={**ANSWER, **REFUSALS})
async def drain(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Accept no more jobs; what waits and runs goes on."""
    return await _change(services, caller, model, QueueMode.DRAINING)


@router.post("/{model:path}/resume", responses={**ANSWER, **REFUSALS})
async def resume(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Go back to normal, from paused or draining."""
    return await _change(services, caller, model, QueueMode.OPEN)


@router.post("/{model:path}/purge", responses={**ANSWER, **REFUSALS})
async def purge(model: Model, caller: CurrentCaller, services: AppServices) -> Response:
    """Cancel all that waits; `complete` is false where there was too much for one request."""
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
