"""Puts the application together; nothing is opened before its lifespan starts."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from accounts.directory import open_signing_in
from api.openapi.route_docs import describe
from api.routes import (
    accounts,
    batches,
    billing,
    dead_letter,
    embeddings,
    files,
    generate,
    job_stream,
    jobs,
    keys,
    models,
    openai,
    ops,
    queues,
    responses,
    sessions,
    usage,
    users,
    webhooks,
)
from api.server.middleware import RequestMiddleware
from core.errors import PipelineError
from core.settings.tree import Settings
from intake.factory import open_services
from wire import problems

#: What a form holds besides its file.
FORM_BYTES = 65_536

#: What pages of other origins may send, and what they may read.
CORS_REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer"),
    *("X-On-Disconnect", "X-Request-ID"),
)
CORS_ANSWER_HEADERS = (
    *("Idempotency-Replayed", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy"),
    *("Retry-After", "X-Penstock-Job", "X-Penstock-Price-Version", "X-Request-ID"),
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
)

#: The busiest first: routes are tried in order.
ROUTERS = (
    jobs.submissions,
    openai.router,
    responses.creation,
    responses.router,
    embeddings.router,
    jobs.router,
    job_stream.router,
    dead_letter.router,
    generate.router,
    models.router,
    usage.router,
    billing.router,
    webhooks.router,
    files.router,
    batches.router,
    sessions.router,
    keys.router,
    users.router,
    accounts.router,
    queues.router,
    ops.router,
)


def create_app(settings: Settings) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, "api") as services:
            app.state.services = services
            app.state.signing_in = open_signing_in(
                services.database, services.store, services.directory, settings.auth
            )
            await services.hub.start()
            yield

    app = FastAPI(
        title="Penstock",
        version=version("penstock"),
        description="Queue-based inference on your own GPUs",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(PipelineError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    if settings.api.cors_origins:
        app.add_middleware(CORSMiddleware, **_cors(settings.api.cors_origins))
    app.add_middleware(
        RequestMiddleware,
        limits=settings.limits,
        uploads={"/v1/files": settings.files.max_bytes + FORM_BYTES},
    )
    describe(app)
    return app


def _cors(origins: Sequence[str]) -> dict[str, Any]:
    """Let pages of these origins call with a key and read what answers say in headers.

    Credentials a browser adds on its own are none: keys are sent by the page itself.
    """
    return {
        "allow_origins": origins,
        "allow_methods": ["GET", "POST", "PATCH", "PUT", "DELETE"],
        "allow_headers": CORS_REQUEST_HEADERS,
        "expose_headers": CORS_ANSWER_HEADERS,
        "max_age": 600,
    }


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer any refusal in our shape."""
    match error:
        case PipelineError():
            problem = problems.from_error(error)
        case RequestValidationError():
            problem = problems.from_validation(error)
        case HTTPException():
            problem = problems.from_http(error)
        case _:
            raise error
    return problems.response(problem, request.scope)
