"""The operator's hand on the queues: how they stand, pause, drain, resume, purge.

Each action is written to the audit log before it is done. While SQL is away it is done all the
same, since that is when a queue may have to be paused: then only the log of this process and, but
for a purge, the queue itself say who did it.
"""

import asyncio
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path
from starlette.responses import Response

from accounts.caller import Caller
from api.deps import AppServices, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import Responses, refusals
from core.db.audit import audit
from core.errors import DatabaseUnavailable
from intake.services import Services
from jobs.store.queue_control import QueueMode

log = structlog.get_logger()

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
            "data": await asyncio.gather(*(_standing(services, name) for name in names)),
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
    await _note(services, caller, model, "queue_purged")
    purged = await services.store.control.purge(model)
    log.info("queue_purged", queue=model, by=caller.id, cancelled=purged.cancelled)
    standing = await _standing(services, model)
    return json_response(standing | {"cancelled": purged.cancelled, "complete": purged.complete})


async def _change(services: Services, caller: Caller, model: str, mode: QueueMode) -> Response:
    await _note(services, caller, model, "queue_mode_set", mode=mode)
    before = await services.store.control.set_mode(model, mode, caller.id)
    log.info("queue_mode_set", queue=model, by=caller.id, mode=mode, before=before)
    return json_response(await _standing(services, model))


async def _note(
    services: Services, caller: Caller, model: str, action: str, **details: Any
) -> None:
    """Write down what is about to be done to a queue there is."""
    await services.store.control.check_known(model)
    try:
        async with services.database.write() as connection:
            await audit(connection, caller.id, action, model, **details)
    except DatabaseUnavailable:
        log.exception("audit_not_written", action=action, target=model, by=caller.id, **details)


async def _standing(services: Services, model: str) -> dict[str, Any]:
    note, state = await asyncio.gather(
        services.store.control.mode(model), services.store.observe(model)
    )
    return {
        "object": "queue",
        "model": model,
        "mode": note.mode,
        "changed_by": note.by or None,
        "changed_at": note.since / 1000 or None,
        "ready": sum(state.ready.values()),
        "ready_by_tier": {str(tier): count for tier, count in state.ready.items()},
        "parked": state.parked,
        "delayed": state.delayed,
        "running": state.running,
        "workers": state.workers,
        "slots": state.slots,
        "tickets": state.tickets,
    }
