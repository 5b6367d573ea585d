"""Routes for monitoring: health, readiness, metrics, circuit breakers. They need no key."""

from collections import Counter
from importlib.metadata import version

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices
from api.http.json_responses import json_response
from api.openapi.route_docs import error_responses
from core import metrics as all_metrics
from core.errors import StoreUnavailable, Unauthenticated
from core.exposition import Exposition
from core.runtime.metrics_access import REFUSAL, may_read_metrics
from intake.operations.worker_status import describe_workers, is_connected

EXPOSITION = Exposition("api", all_metrics.API)

router = APIRouter(tags=["operations"])

#: The states of a breaker, the worst first.
BREAKER_STATES = ("open", "half_open", "closed")


@router.get("/health")
async def health() -> Response:
    """Report that the process is alive. Independent of other services."""
    return json_response({"status": "ok"})


@router.get("/ping", response_class=Response)
@router.post("/ping", response_class=Response)
async def ping() -> Response:
    """Report that the process is alive, under the name that vLLM's server has for it."""
    return Response(status_code=200)


@router.get("/version")
async def show_version() -> Response:
    """Return the version of Penstock."""
    return json_response({"version": version("penstock")})


@router.get("/load")
async def load(services: AppServices) -> Response:
    """Return how many requests this process has open that wait for a job or stream it."""
    return json_response({"server_load": len(services.open_requests)})


@router.get("/ready", responses=error_responses(503))
async def ready(services: AppServices) -> Response:
    """Report whether requests can be served: Redis accepts writes and events arrive."""
    if services.open_requests.closing:
        raise StoreUnavailable("This server is shutting down", retry_after_seconds=1)
    if not await is_connected(services):
        raise StoreUnavailable("No connection to the job store", retry_after_seconds=2)
    return json_response({"status": "ready"})


@router.get("/metrics", responses=error_responses(401))
def metrics(request: Request, services: AppServices) -> Response:
    """Return this process's metrics for Prometheus; if `metrics.token` is set, only with it."""
    token = services.settings.metrics.token
    if not may_read_metrics(request.headers.get("authorization"), token):
        raise Unauthenticated(REFUSAL)
    body, content_type = EXPOSITION.render(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


@router.get("/circuit-breaker/status", responses=error_responses(503))
async def circuit_breaker(services: AppServices) -> Response:
    """Return the circuit breaker of every worker, their worst state, and counts of all of them."""
    workers = await describe_workers(services)
    breakers = [worker.get("breaker", {}) for worker in workers]
    states = Counter(breaker.get("state", "unknown") for breaker in breakers)
    counts = {
        "workers": {name: states[name] for name in BREAKER_STATES},
        "failures": sum(breaker.get("failures", 0) for breaker in breakers),
        "successes": sum(breaker.get("successes", 0) for breaker in breakers),
    }
    worst = next((name for name in BREAKER_STATES if states[name]), "unknown")
    return json_response({"object": "list", "state": worst, "counts": counts, "data": workers})
