"""Routes for dead-letter jobs, which failed too often."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.openapi.route_docs import error_responses, job_page_responses, job_responses
from api.routes.jobs import Limit, respond_with_retry
from intake.services import Services
from jobs.job import Job
from wire.views.job import job_object

router = APIRouter(prefix="/v1/dead-letter", tags=["dead letter"])


@router.get("", responses={**job_page_responses(), **error_responses(401, 422, 503)})
async def list_dead(caller: CurrentCaller, services: AppServices, limit: Limit = 20) -> Response:
    """List this account's dead-letter jobs, newest first; the operator sees all accounts."""
    jobs = await services.store.list_dead(
        None if caller.operator else caller.account, limit=limit + 1
    )
    data = [_dead_object(services, job, caller) for job in jobs[:limit]]
    return json_response({"object": "list", "data": data, "has_more": len(jobs) > limit})


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


def _dead_object(services: Services, job: Job, caller: Caller) -> dict[str, Any]:
    fields = job_object(job, services.cost_cache.of(job))
    return {**fields, "account": job.account} if caller.operator else fields
