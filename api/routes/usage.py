"""What an account used: totals, and the proof of a single job."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.deps import AppServices, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import Responses, refusals
from billing.reports.proof import read_proof
from billing.reports.usage import usage_totals
from core.errors import JobGone, JobNotFound
from intake.job_lookup import ID, FoundJob, find_job
from intake.services import Services
from intake.usage_query import read_usage_query, usage_cursor
from jobs.result import JobResult
from wire.errors import ProofNotReady
from wire.schemas.usage import UsagePage, UsageProof
from wire.views.proof import OutputStore, proof_object
from wire.views.usage import usage_csv, usage_page

router = APIRouter(prefix="/v1/usage", tags=["usage"])

ACCOUNT = r"^[A-Za-z0-9_.-]{1,64}$"
CSV = "text/csv; charset=utf-8; header=present"
PAGE: Responses = {
    200: {
        "model": UsagePage,
        "description": "a page; the `Link` header names the next one",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
DAY = "a UTC day, as 2026-11-22; included"


@router.get("", responses={**PAGE, **refusals(400, 401, 404, 422, 503)})
async def list_usage(
    request: Request,
    caller: CurrentCaller,
    services: AppServices,
    since: Annotated[str | None, Query(alias="from", description=DAY)] = None,
    until: Annotated[str | None, Query(alias="to", description=DAY)] = None,
    group_by: Annotated[str, Query(description="any of day, model, key, with commas")] = "day",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(description="`next` of an earlier page")] = None,
    account: Annotated[str | None, Query(pattern=ACCOUNT, description="for the operator")] = None,
    format_: Annotated[str | None, Query(alias="format", pattern="^(json|csv)$")] = None,
) -> Response:
    """Add up this account's usage by day, model or key."""
    query = read_usage_query(caller, since, until, group_by, limit, after, account)
    totals, more = await usage_totals(services.database, query)
    following = usage_cursor(query, totals[-1]) if more else None
    headers = _links(request, following)
    as_csv = format_ == "csv" if format_ else "text/csv" in request.headers.get("accept", "")
    if as_csv:
        return Response(usage_csv(query, totals), headers=headers, media_type=CSV)
    return json_response(usage_page(query, totals, following), headers=headers)


@router.get(
    "/{job_id}/proof",
    responses={200: {"model": UsageProof}, **refusals(401, 404, 409, 410, 422, 503)},
)
async def prove_usage(job_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Say what a job delivered and what is charged for it, so that it can be checked."""
    account = None if caller.admin else caller.account
    if not ID.fullmatch(job_id):
        raise JobNotFound(f"no job {job_id}")
    missing: Exception | None = None
    found: FoundJob | None = None
    try:
        found = await find_job(services, job_id, account)
    except (JobGone, JobNotFound) as error:
        missing = error
    proof = await read_proof(services.database, job_id, account)
    if proof is None:
        if missing is not None:
            raise missing
        raise ProofNotReady(f"job {job_id} has not ended, or is on its way to the ledger")
    place, result = await _kept(services, found)
    return json_response(proof_object(proof, place, result))


async def _kept(services: Services, found: FoundJob | None) -> tuple[OutputStore | None, JobResult]:
    """Return what is still kept of what a job delivered, and where."""
    if found is None:
        return None, JobResult()
    try:
        result = await found.result(services)
    except JobGone:
        return None, JobResult()
    if result.usage is None:
        return None, JobResult()  # erased a moment ago
    return "log" if found.archived is None else "archive", result


def _links(request: Request, following: str | None) -> Mapping[str, str]:
    """Return the header that leads to the next page (RFC 8288)."""
    if following is None:
        return {}
    params = [
        (name, value) for name, value in request.query_params.multi_items() if name != "after"
    ]
    target = f"{request.url.path}?{urlencode([*params, ('after', following)])}"
    return {"Link": f'<{target}>; rel="next"'}
