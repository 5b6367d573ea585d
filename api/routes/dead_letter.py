"""Routes for dead-letter jobs, which failed too often: list, requeue and delete, one or many."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import (
    Responses,
    body_of,
    error_responses,
    job_page_responses,
    job_responses,
)
from api.routes.jobs import Limit, respond_with_retry
from intake.lookup.job_lookup import erase_job
from intake.operations.dead_letter_operations import (
    BulkResult,
    Selection,
    delete_dead_letters,
    requeue_dead_letters,
    visible,
)
from intake.services import Services
from jobs.job import Job
from jobs.store.dead_letters import DeadLetterCursor, DeadLetterFilter
from wire.schemas.dead_letters import (
    DeadLetterAction,
    DeadLetterSelection,
    cursor_text,
    read_cursor,
    read_instant,
)
from wire.schemas.validation import check
from wire.views.job import job_object

router = APIRouter(prefix="/v1/dead-letter", tags=["dead letter"])

#: How long a dry run counts.
COUNT_SECONDS = 5.0

TIME = "RFC 3339 with a time zone, or Unix seconds"
Name = Annotated[str | None, Query(max_length=512)]
Time = Annotated[str | None, Query(max_length=64, description=TIME)]
ACTION: Responses = {200: {"model": DeadLetterAction}}
BULK_ERRORS = error_responses(400, 401, 403, 408, 413, 422, 503)


@router.get("", responses={**job_page_responses(), **error_responses(400, 401, 403, 422, 503)})
async def list_dead(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    account: Name = None,
    model: Name = None,
    reason: Annotated[
        str | None, Query(max_length=512, description="code of the job's last error")
    ] = None,
    failed_after: Time = None,
    failed_before: Time = None,
) -> Response:
    """List this account's dead-letter jobs, newest first; the operator sees all accounts."""
    wanted = DeadLetterFilter(
        account,
        model,
        reason,
        read_instant("failed_after", failed_after),
        read_instant("failed_before", failed_before),
    )
    page = await services.store.dead.page(
        visible(caller, wanted), limit=limit, after=read_cursor(after)
    )
    first = next((DeadLetterCursor(job.finished, job.id) for job in page.jobs), None)
    return json_response(
        {
            "object": "list",
            "data": [_dead_object(services, job, caller) for job in page.jobs],
            "first_id": cursor_text(first),
            "last_id": cursor_text(page.after),
            "has_more": page.after is not None,
        }
    )


@router.post(
    "/requeue",
    openapi_extra=body_of(DeadLetterSelection),
    responses={**ACTION, **BULK_ERRORS},
)
async def requeue_many(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Retry all dead-letter jobs that match, each as a new job with `retry_of`."""
    parsed = check(DeadLetterSelection, await read_object(request))
    if parsed.dry_run:
        return await _count(services, caller, parsed)
    done = await requeue_dead_letters(
        services, caller, _selection(parsed), request.state.request_id
    )
    return _answer(done)


@router.post(
    "/delete",
    openapi_extra=body_of(DeadLetterSelection),
    responses={**ACTION, **BULK_ERRORS},
)
async def delete_many(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Delete all dead-letter jobs that match, with their events. Their usage stays billed."""
    parsed = check(DeadLetterSelection, await read_object(request))
    if parsed.dry_run:
        return await _count(services, caller, parsed)
    return _answer(await delete_dead_letters(services, caller, _selection(parsed)))


@router.post(
    "/{job_id}/requeue",
    status_code=202,
    responses={**job_responses(202), **error_responses(401, 402, 404, 409, 410, 429, 503)},
)
async def requeue(
    request: Request, job_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Retry a dead-letter job as a new job with `retry_of`."""
    job = await services.store.get(job_id, None if caller.operator else caller.account)
    return await respond_with_retry(request, services, caller, job)


@router.delete("/{job_id}", status_code=204, responses=error_responses(401, 404, 409, 410, 503))
async def delete_dead(job_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Delete a dead-letter job and its events. Its usage stays billed."""
    job = await services.store.get(job_id, None if caller.operator else caller.account)
    await erase_job(services, job.id, job.account)
    return Response(status_code=204)


def _selection(parsed: DeadLetterSelection) -> Selection:
    return Selection(parsed.wanted(), parsed.limit, read_cursor(parsed.after))


async def _count(services: Services, caller: Caller, parsed: DeadLetterSelection) -> Response:
    found = await services.store.dead.count(visible(caller, parsed.wanted()), COUNT_SECONDS)
    return json_response(_action(found.matched, has_more=not found.complete, dry_run=True))


def _answer(result: BulkResult) -> Response:
    shown = _action(result.matched, has_more=result.after is not None)
    refused = [
        {"id": job.job_id, "code": job.error.code, "detail": str(job.error)}
        for job in result.refused
    ]
    last = cursor_text(result.after)
    return json_response(shown | {"done": result.done, "refused": refused, "last_id": last})


def _action(matched: int, *, has_more: bool, dry_run: bool = False) -> dict[str, Any]:
    return {
        "object": "dead_letter.action",
        "dry_run": dry_run,
        "matched": matched,
        "done": 0,
        "refused": [],
        "last_id": None,
        "has_more": has_more,
    }


def _dead_object(services: Services, job: Job, caller: Caller) -> dict[str, Any]:
    fields = job_object(job, services.cost_cache.of(job))
    return {**fields, "account": job.account} if caller.operator else fields
