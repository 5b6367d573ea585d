"""Builds the FastAPI application; connections are opened when its lifespan starts."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from accounts.directory_factory import open_signing_in
from api.http.error_handlers import add_error_handlers
from api.openapi.pages import add_pages
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
    messages,
    model_retirement,
    models,
    openai,
    ops,
    queues,
    responses,
    sessions,
    tokenize,
    usage,
    users,
    webhooks,
)
from api.server.body_limits import BodyLimits
from api.server.middleware import RequestMiddleware
from api.server.request_log import RequestLog
from core.settings.tree import Settings
from intake.services_factory import open_services

#: Allowance for the form fields of an upload besides the file, in bytes.
FORM_BYTES = 65_536

#: Headers that web pages of other origins may send, and response headers that they may read.
CORS_REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer"),
    *("X-API-Key", "X-On-Disconnect", "X-Request-ID", "anthropic-version", "anthropic-beta"),
)
CORS_RESPONSE_HEADERS = (
    *("Idempotency-Replayed", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy"),
    *("Retry-After", "X-Penstock-Job", "X-Penstock-Price-Version", "X-Request-ID", "X-Trace-ID"),
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
)

#: Busiest first, because routes are tried in this order.
ROUTERS = (
    jobs.submissions,
    openai.router,
    responses.creation,
    responses.router,
    messages.router,
    tokenize.router,
    embeddings.router,
    jobs.router,
    job_stream.router,
    dead_letter.router,
    generate.router,
    models.router,
    model_retirement.router,
    usage.router,
    billing.router,
    webhooks.router,
    files.router,
    batches.router,
    sessions.router,
    sessions.alias,
    keys.router,
    users.router,
    accounts.router,
    queues.router,
    ops.router,
)


def create_app(settings: Settings) -> FastAPI:
    """Build the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, "api") as services:
            app.state.services = services
            app.state.signing_in = open_signing_in(
                services.database, services.directory, settings.auth
            )
            await services.hub.start()
            yield

    app = FastAPI(
        title="Penstock",
        version=version("penstock"),
        description="Queue-based inference on your own GPUs",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    add_pages(app)
    add_error_handlers(app)
    if settings.api.cors_origins:
        app.add_middleware(CORSMiddleware, **_cors(settings.api.cors_origins))
    uploads = {"/v1/files": settings.files.max_bytes + FORM_BYTES}
    app.add_middleware(
        RequestMiddleware,
        limits=settings.limits,
        body_limits=BodyLimits(settings.limits, settings.api, uploads),
        request_log=RequestLog(settings.log),
    )
    describe(app)
    return app


def _cors(origins: Sequence[str]) -> dict[str, Any]:
    """Return the CORS options that let web pages of these origins call the API.

    Credentials are not allowed, because the page itself sends the API key, not the browser.
    """
    return {
        "allow_origins": origins,
        "allow_methods": ["GET", "POST", "PATCH", "PUT", "DELETE"],
        "allow_headers": CORS_REQUEST_HEADERS,
        "expose_headers": CORS_RESPONSE_HEADERS,
        "max_age": 600,
    }
