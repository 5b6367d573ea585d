"""Routes for usage: totals, and the proof of one job."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.openapi.route_docs import Responses, error_responses
from billing.reports.usage import usage_totals
from intake.lookup.usage_proof import find_proof
from intake.lookup.usage_query import read_usage_query, usage_cursor
from wire.schemas.usage import UsagePage, UsageProof
from wire.views.proof import proof_object
from wire.views.usage import usage_csv, usage_page

router = APIRouter(prefix="/v1/usage", tags=["usage"])

ACCOUNT = r"^[A-Za-z0-9_.-]{1,64}$"
CSV = "text/csv; charset=utf-8; header=present"
PAGE: Responses = {
    200: {
        "model": UsagePage,
        "description": "a page; the `Link` header points to the next one",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
DAY = "UTC day, as 2026-11-22; inclusive"


@router.get("", responses={**PAGE, **error_responses(400, 401, 404, 422, 503)})
async def list_usage(
    request: Request,
    caller: CurrentCaller,
    services: AppServices,
    since: Annotated[str | None, Query(alias="from", description=DAY)] = None,
    until: Annotated[str | None, Query(alias="to", description=DAY)] = None,
    group_by: Annotated[
        str, Query(description="any of day, model and key, separated by commas")
    ] = "day",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(description="`next` of the previous page")] = None,
    account: Annotated[str | None, Query(pattern=ACCOUNT, description="operator only")] = None,
    format_: Annotated[str | None, Query(alias="format", pattern="^(json|csv)$")] = None,
) -> Response:
    """Return this account's total usage by day, model or key."""
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
    responses={200: {"model": UsageProof}, **error_responses(401, 404, 409, 410, 422, 503)},
)
async def prove_usage(job_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a job's delivered output and charge, so that the charge can be checked."""
    account = None if caller.operator else caller.account
    found = await find_proof(services, job_id, account)
    return json_response(proof_object(found.proof, found.stored_in, found.output))


def _links(request: Request, following: str | None) -> Mapping[str, str]:
    """Build the Link header that points to the next page (RFC 8288)."""
    if following is None:
        return {}
    params = [
        (name, value) for name, value in request.query_params.multi_items() if name != "after"
    ]
    target = f"{request.url.path}?{urlencode([*params, ('after', following)])}"
    return {"Link": f'<{target}>; rel="next"'}
