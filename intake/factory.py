"""Opens what admits and shows jobs: for the API, and for the process that feeds batches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from accounts.caller_cache import CallerCache
from accounts.directory import open_directory
from api.server.http_metrics import watch_loop
from api.streaming.download import Slots
from billing.pricing.cost_cache import CostCache
from core.db.engine import Database
from core.settings.tree import Settings
from files.object_store import ObjectStore
from intake.budget_guard import BudgetGuard
from intake.services import ModelCache, Services
from jobs.model_registry import ModelRegistry
from jobs.store.factory import open_store
from jobs.stream.event_hub import EventHub


@asynccontextmanager
async def open_services(settings: Settings, process: str) -> AsyncIterator[Services]:
    """Open everything, keep fresh what is remembered, and close it all at the end.

    The hub is there, but does not listen before it is started.
    """
    store = open_store(settings)
    database = Database(settings.database, process)
    costs = CostCache(database)
    budgets = BudgetGuard(database, store, costs, settings.billing)
    directory = open_directory(database, store, settings.auth)
    services = Services(
        settings=settings,
        store=store,
        hub=EventHub(store, settings.stream),
        models=ModelCache(ModelRegistry(store.redis, store.keys)),
        callers=CallerCache(store.redis, store.keys, directory.copying.truth),
        directory=directory,
        database=database,
        costs=costs,
        budgets=budgets,
        objects=ObjectStore(settings.files),
        uploads=Slots(settings.files.uploads, "uploads"),
    )
    refreshing = (costs.keep_fresh(), budgets.keep_fresh(), directory.copying.keep_in_step())
    tasks = [asyncio.create_task(work) for work in (*refreshing, watch_loop())]
    try:
        yield services
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await services.callers.close()
        directory.passwords.close()
        await services.hub.close()
        await database.close()
        await store.close()
