"""Jobs that failed too often: look at them, and run them again."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.deps import Api, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import job_answer, listed, refusals
from api.routes.jobs import Limit, run_again
from intake.services import Services
from jobs.job import Job
from wire.views.job import job_object

router = APIRouter(prefix="/v1/dead-letter", tags=["dead letter"])


@router.get("", responses={**listed(), **refusals(401, 422, 503)})
async def list_dead(key: CurrentCaller, api: Api, limit: Limit = 20) -> Response:
    """List this account's dead-letter jobs, newest first; an admin sees every account's."""
    jobs = await api.store.list_dead(None if key.admin else key.account, limit=limit + 1)
    data = [_dead_object(api, job, key) for job in jobs[:limit]]
    return json_response({"object": "list", "data": data, "has_more": len(jobs) > limit})


@router.post(
    "/{job_id}/requeue",
    status_code=202,
    responses={**job_answer(202), **refusals(401, 402, 404, 409, 410, 429, 503)},
)
async def requeue(request: Request, job_id: str, key: CurrentCaller, api: Api) -> Response:
    """Run a dead-letter job again, as a new job with `retry_of`."""
    job = await api.store.get(job_id, None if key.admin else key.account)
    return await run_again(request, api, key, job)


def _dead_object(api: Services, job: Job, key: Caller) -> dict[str, Any]:
    fields = job_object(job, api.cost_cache.of(job))
    return {**fields, "account": job.account} if key.admin else fields
