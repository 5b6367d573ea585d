"""The operator's actions on queues (pause, drain, close, resume, set, purge) and models (retire).

Each action is written to the audit log, on a queue before it is carried out. If SQL is unavailable
the action is carried out anyway, because that is when a queue may have to be paused; then this
process's log and, except for a purge, the queue itself record who did it.
"""

from typing import Any

import structlog

from accounts.caller import Caller
from core.db.audit import audit
from core.errors import DatabaseUnavailable
from intake.services import Services
from jobs.store.model_retirement import RetiredJobs, RetiredModel
from jobs.store.queue_control import ModeChange, PurgedJobs

log = structlog.get_logger()


async def change_queue_mode(
    services: Services, caller: Caller, model: str, action: str, change: ModeChange
) -> None:
    """Change what a model's queue does.

    Args:
        services: What the process shares.
        caller: The operator.
        model: The served model.
        action: Name of the action for the audit log, such as `pause`.
        change: What it changes.

    Raises:
        ModelNotFound: No worker has ever served this model.
    """
    before = (await services.store.control.mode(model)).mode
    details = {"verb": action, "mode": change.applied(before)}
    await _record(services, caller, model, "queue_mode_set", **details)
    before, mode = await services.store.control.change_mode(model, change, caller.id)
    log.info("queue_mode_set", queue=model, by=caller.id, verb=action, mode=mode, before=before)


async def purge_queue(services: Services, caller: Caller, model: str) -> PurgedJobs:
    """Cancel all waiting jobs of a model's queue.

    Raises:
        ModelNotFound: No worker has ever served this model.
    """
    await _record(services, caller, model, "queue_purged")
    purged = await services.store.control.purge(model)
    log.info("queue_purged", queue=model, by=caller.id, cancelled=purged.cancelled)
    return purged


async def retire_model(
    services: Services, caller: Caller, model: str, jobs: RetiredJobs
) -> RetiredModel:
    """Retire a model.

    Args:
        services: What the process shares.
        caller: The operator.
        model: The served model.
        jobs: What happens to its jobs.

    Raises:
        ModelNotFound: No such model is known.
        ModelBusy: It has jobs, and `jobs` is `refuse`.
    """
    retired = await services.store.retirement.retire(model, jobs, caller.id)
    await _write(services, caller, model, "model_retired", jobs=jobs)
    log.info("model_retired", model=model, by=caller.id, jobs=jobs, state=retired.state)
    return retired


async def restore_model(services: Services, caller: Caller, model: str) -> None:
    """End a model's retirement.

    Raises:
        ModelNotFound: It is not retired.
    """
    await services.store.retirement.restore(model)
    await _write(services, caller, model, "model_restored")
    log.info("model_restored", model=model, by=caller.id)


async def _record(
    services: Services, caller: Caller, model: str, action: str, **details: Any
) -> None:
    """Write an action to the audit log; the queue must exist."""
    await services.store.control.check_known(model)
    await _write(services, caller, model, action, **details)


async def _write(
    services: Services, caller: Caller, model: str, action: str, **details: Any
) -> None:
    try:
        async with services.database.write() as connection:
            await audit(connection, caller.id, action, model, **details)
    except DatabaseUnavailable:
        log.exception("audit_not_written", action=action, target=model, by=caller.id, **details)
