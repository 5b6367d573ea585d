"""For operators: alive, ready, metrics, breakers. None needs a key; none names an account."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import AppServices
from api.json_responses import json_response
from api.openapi.route_docs import refusals
from core import metrics as counted
from core.errors import StoreUnavailable
from core.exposition import Exposition
from intake.fleet import describe_workers, is_connected

EXPOSITION = Exposition("api", counted.API)

router = APIRouter(tags=["operations"])


@router.get("/health")
async def health() -> Response:
    """Say that the process is alive; depends on nothing."""
    return json_response({"status": "ok"})


@router.get("/ready", responses=refusals(503))
async def ready(services: AppServices) -> Response:
    """Say whether requests can be served: Redis answers and events arrive."""
    if services.open_requests.closing:
        raise StoreUnavailable("this server is closing", retry_after_seconds=1)
    if not await is_connected(services):
        raise StoreUnavailable("no connection to the job store", retry_after_seconds=2)
    return json_response({"status": "ready"})


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Return this process's metrics for Prometheus; on a thread, for there can be many."""
    body, content_type = EXPOSITION.render(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


@router.get("/circuit-breaker/status", responses=refusals(503))
async def circuit_breaker(services: AppServices) -> Response:
    """Return every worker's breaker; `state` is the worst among them."""
    workers = await describe_workers(services)
    states = {worker.get("breaker", {}).get("state") for worker in workers}
    worst = next((name for name in ("open", "half_open", "closed") if name in states), "unknown")
    return json_response({"object": "list", "state": worst, "data": workers})
