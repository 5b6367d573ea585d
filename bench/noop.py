"""The other side of `submit`: the same server, key check and validation, and no job."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.app import create_app
from api.deps import Api, CurrentCaller
from api.fast_route import DirectRoute
from api.server.uvicorn_server import create_server
from core.settings.tree import Settings, get_settings
from intake.admission import AdmissionRequest, prepare
from intake.permissions import declare, submitters
from intake.preferences import read_preferences
from wire.schemas.jobs import BODIES, JobRequest
from wire.schemas.reading import check, read_object

PATH = "/noop"
ANSWER = b'{"id":"job_000000000000000000000000000000","object":"job","status":"queued"}'

router = APIRouter(route_class=DirectRoute)
declare(f"POST {PATH}", submitters("jobs"))


@router.post(PATH)
async def answer(request: Request, key: CurrentCaller, api: Api) -> Response:
    """Validate headers and body as `POST /v1/jobs` does, and answer at once."""
    preferences = read_preferences(request, api.settings.limits.wait_seconds)
    asked = check(JobRequest, await read_object(request))
    checked = check(BODIES[asked.url], asked.body, "body")
    wish = AdmissionRequest(asked.url, asked.body, checked, "", preferences, asked.on_disconnect)
    await prepare(api, key, wish)
    return Response(ANSWER, status_code=202, media_type="application/json")


def run(settings: Settings) -> None:
    """Serve the application with the no-op route, first in line like the real one."""
    server = create_server(settings)
    app = create_app(settings)
    app.include_router(router)
    app.router.routes.insert(0, app.router.routes.pop())
    server.config.app = app
    server.run()


if __name__ == "__main__":
    run(get_settings())
