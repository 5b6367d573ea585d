"""The operator's actions on a queue: pause, drain, resume, purge.

Each action is written to the audit log before it is carried out. If SQL is unavailable the action
is carried out anyway, because that is when a queue may have to be paused; then this process's log
and, except for a purge, the queue itself record who did it.
"""

from typing import Any

import structlog

from accounts.caller import Caller
from core.db.audit import audit
from core.errors import DatabaseUnavailable
from intake.services import Services
from jobs.store.queue_control import PurgedJobs, QueueMode

log = structlog.get_logger()


async def set_queue_mode(services: Services, caller: Caller, model: str, mode: QueueMode) -> None:
    """Pause, drain or resume a model's queue.

    Raises:
        ModelNotFound: No worker has ever served this model.
    """
    await _record(services, caller, model, "queue_mode_set", mode=mode)
    before = await services.store.control.set_mode(model, mode, caller.id)
    log.info("queue_mode_set", queue=model, by=caller.id, mode=mode, before=before)


async def purge_queue(services: Services, caller: Caller, model: str) -> PurgedJobs:
    """Cancel all waiting jobs of a model's queue.

    Raises:
        ModelNotFound: No worker has ever served this model.
    """
    await _record(services, caller, model, "queue_purged")
    purged = await services.store.control.purge(model)
    log.info("queue_purged", queue=model, by=caller.id, cancelled=purged.cancelled)
    return purged


async def _record(
    services: Services, caller: Caller, model: str, action: str, **details: Any
) -> None:
    """Write an action to the audit log; the queue must exist."""
    await services.store.control.check_known(model)
    try:
        async with services.database.write() as connection:
            await audit(connection, caller.id, action, model, **details)
    except DatabaseUnavailable:
        log.exception("audit_not_written", action=action, target=model, by=caller.id, **details)
