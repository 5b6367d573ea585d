"""Baseline of `submit`: the same server, key check and validation, but no job is created."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.app import create_app
from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.request_body import read_object
from api.uvicorn_server import create_server
from core.settings.tree import Settings, get_settings
from intake.admission import AdmissionRequest, prepare
from intake.permissions import declare, submitters
from intake.preferences import read_preferences
from wire.schemas.jobs import BODIES, JobRequest
from wire.schemas.validation import check

PATH = "/noop"
ANSWER = b'{"id":"job_000000000000000000000000000000","object":"job","status":"queued"}'

router = APIRouter(route_class=FastRoute)
declare(f"POST {PATH}", submitters("jobs"))


@router.post(PATH)
async def answer(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Validate headers and body as `POST /v1/jobs` does, and answer at once."""
    preferences = read_preferences(request.headers, services.settings.limits.wait_seconds)
    parsed = check(JobRequest, await read_object(request))
    checked = check(BODIES[parsed.url], parsed.body, "body")
    admission_request = AdmissionRequest(
        parsed.url, parsed.body, checked, "", preferences, parsed.on_disconnect
    )
    await prepare(services, caller, admission_request)
    return Response(ANSWER, status_code=202, media_type="application/json")


def run(settings: Settings) -> None:
    """Serve the application with the no-op route, matched first like the real one."""
    server = create_server(settings)
    app = create_app(settings)
    app.include_router(router)
    app.router.routes.insert(0, app.router.routes.pop())
    server.config.app = app
    server.run()


if __name__ == "__main__":
    run(get_settings())
