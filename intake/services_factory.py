"""Builds the `Services` that the API process or the batch process shares, and closes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from accounts.caller_cache import CallerCache
from accounts.directory_factory import open_directory
from accounts.quota import RateRules
from billing.pricing.cost_cache import CostCache
from core.db.database import Database
from core.runtime.event_loop_lag import measure_event_loop_lag
from core.settings.tree import Settings
from files.object_store import ObjectStore
from intake.budget_guard import BudgetGuard
from intake.lifetime.concurrency_limit import ConcurrencyLimit
from intake.media.media_fetcher import MediaFetcher
from intake.services import ModelCache, Services
from jobs.model_registry import ModelRegistry
from jobs.store.store_factory import open_store
from jobs.stream.event_hub import EventHub
from jobs.tokenising.tokeniser_client import TokeniserClient


@asynccontextmanager
async def open_services(settings: Settings, process: str) -> AsyncIterator[Services]:
    """Open the services, refresh the caches in the background, and close everything at the end.

    The event hub must still be started by the caller.

    Args:
        settings: The process's settings.
        process: The name under which the process connects to SQL.
    """
    store = open_store(settings)
    database = Database(settings.database, process)
    costs = CostCache(database)
    budgets = BudgetGuard(database, store, costs, settings.billing)
    directory = open_directory(database, store.redis, settings)
    fetch = settings.media_fetch
    fetcher = MediaFetcher(fetch) if fetch.enabled else None
    services = Services(
        settings=settings,
        store=store,
        hub=EventHub(store, settings.stream),
        models=ModelCache(ModelRegistry(store.redis, store.keys)),
        callers=CallerCache(store.redis, store.keys, directory.cache_sync.truth),
        directory=directory,
        database=database,
        cost_cache=costs,
        budget_guard=budgets,
        object_store=ObjectStore(settings.files),
        upload_limit=ConcurrencyLimit(settings.files.uploads, "uploads"),
        tokeniser=TokeniserClient(store, settings),
        rate_rules=RateRules.of(settings.limits),
        media_fetcher=fetcher,
    )
    refreshing = (costs.keep_fresh(), budgets.keep_fresh(), directory.cache_sync.keep_in_sync())
    tasks = [asyncio.create_task(task) for task in (*refreshing, measure_event_loop_lag())]
    try:
        yield services
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await services.callers.close()
        await directory.close()
        await services.hub.close()
        await services.tokeniser.close()
        if fetcher is not None:
            await fetcher.close()
        await database.close()
        await store.close()
