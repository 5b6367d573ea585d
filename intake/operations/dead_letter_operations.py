"""Runs many dead-letter jobs again, or deletes them, by filter.

Each action is written to the audit log before it is carried out. Invariant: an action may be
repeated after a lost answer: a requeued or deleted job has left the list, and requeuing a job
twice makes one new job.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import NamedTuple

import structlog

from accounts.caller import Caller
from core.db.audit import audit
from core.errors import Forbidden, JobGone, JobNotFound, PipelineError
from intake.job_retry import retry_job
from intake.lookup.job_lookup import erase_job
from intake.services import Services
from jobs.job import Job
from jobs.store.dead_letters import DeadLetterCursor, DeadLetterFilter

log = structlog.get_logger()


class Selection(NamedTuple):
    """Which dead letters an action is for: at most `limit` of those that match, after `after`."""

    wanted: DeadLetterFilter
    limit: int
    after: DeadLetterCursor | None = None


class RefusedJob(NamedTuple):
    """A job that an action was refused for; it stays in the list."""

    job_id: str
    error: PipelineError


class BulkResult(NamedTuple):
    """What an action did; `after` is the cursor for the rest, None when no job is left."""

    matched: int
    done: int
    refused: list[RefusedJob]
    after: DeadLetterCursor | None


def visible(caller: Caller, wanted: DeadLetterFilter) -> DeadLetterFilter:
    """Return the filter for what a caller may see: the operator everything, others their account.

    Raises:
        Forbidden: The filter names another account.
    """
    if caller.operator:
        return wanted
    if wanted.account not in (None, caller.account):
        raise Forbidden("Only the operator sees dead letters of other accounts", param="account")
    return DeadLetterFilter(**(asdict(wanted) | {"account": caller.account}))


async def requeue_dead_letters(
    services: Services, caller: Caller, selection: Selection, request_id: str
) -> BulkResult:
    """Run jobs again, each as a new job.

    Args:
        services: What the process shares.
        caller: Who does it.
        selection: Which jobs.
        request_id: The id of the HTTP request.

    Raises:
        Forbidden: The selection is of another account.
        StoreUnavailable, DatabaseUnavailable: Nothing, or a part, was done; repeat the request.
    """

    async def requeue(job: Job) -> None:
        whole = await services.store.get(job.id, job.account)
        await retry_job(services, caller, whole, request_id)

    return await _each(services, caller, "dead_letters_requeued", selection, requeue)


async def delete_dead_letters(
    services: Services, caller: Caller, selection: Selection
) -> BulkResult:
    """Delete jobs with their events; their usage stays billed.

    Args:
        services: What the process shares.
        caller: Who does it.
        selection: Which jobs.

    Raises:
        Forbidden: The selection is of another account.
        StoreUnavailable, DatabaseUnavailable: Nothing, or a part, was done; repeat the request.
    """

    async def delete(job: Job) -> None:
        await erase_job(services, job.id, job.account)

    return await _each(services, caller, "dead_letters_deleted", selection, delete)


async def _each(
    services: Services,
    caller: Caller,
    action: str,
    selection: Selection,
    act: Callable[[Job], Awaitable[None]],
) -> BulkResult:
    wanted = visible(caller, selection.wanted)
    dead = services.store.dead
    jobs, after = await dead.page(wanted, limit=selection.limit, after=selection.after)
    if jobs:
        given = {name: value for name, value in asdict(wanted).items() if value is not None}
        account = given.pop("account", None)
        async with services.database.write() as connection:
            await audit(
                connection,
                caller.id,
                action,
                account or "every account",
                account=account,
                jobs=len(jobs),
                **given,
            )
    refused = []
    for job in jobs:
        try:
            await act(job)
        except (JobGone, JobNotFound):
            # Deleted meanwhile, or its retention is over.
            await dead.remove(job)
        except PipelineError as error:
            refused.append(RefusedJob(job.id, error))
    done = len(jobs) - len(refused)
    if jobs:
        log.info(action, by=caller.id, account=wanted.account, done=done, refused=len(refused))
    return BulkResult(len(jobs), done, refused, after)
