"""Puts the application together; nothing is opened before its lifespan starts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api import problems
from api.budgets import Budgets
from api.costs import Costs
from api.documents import describe
from api.middleware import Door
from api.routes import billing, dead_letter, generate, job_stream, jobs, models, openai, ops, usage
from api.services import Models, Services
from billing.database import Database
from jobs.accounts import KeyFile
from jobs.errors import PipelineError
from jobs.hub import EventHub
from jobs.models import ModelRegistry
from jobs.open import open_store
from jobs.settings import Settings

#: The busiest first: routes are tried in order.
ROUTERS = (
    jobs.submissions,
    openai.router,
    jobs.router,
    job_stream.router,
    dead_letter.router,
    generate.router,
    models.router,
    usage.router,
    billing.router,
    ops.router,
)


def create_app(settings: Settings) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = open_store(settings)
        database = Database(settings.database, "api")
        costs = Costs(database)
        budgets = Budgets(database, store, costs, settings.billing)
        hub = EventHub(store, settings.stream)
        app.state.services = Services(
            settings=settings,
            store=store,
            hub=hub,
            models=Models(ModelRegistry(store.redis, store.keys)),
            keys=KeyFile(settings.api.keys_file),
            database=database,
            costs=costs,
            budgets=budgets,
        )
        await hub.start()
        refreshing = [
            asyncio.create_task(known.keep_fresh(), name="refresh") for known in (costs, budgets)
        ]
        try:
            yield
        finally:
            for task in refreshing:
                task.cancel()
            await asyncio.gather(*refreshing, return_exceptions=True)
            await hub.close()
            await database.close()
            await store.close()

    app = FastAPI(
        title="Penstock",
        version="0.1.0",
        description="Queue-based inference on your own GPUs",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(PipelineError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_middleware(Door, body_bytes=settings.limits.body_bytes)
    describe(app)
    return app


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
