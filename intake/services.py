"""What the requests and batches of one process share: stores, caches, limits, open requests."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

import structlog
from redis.exceptions import RedisError

from accounts.caller_cache import CallerCache
from accounts.directory_factory import Directory
from accounts.quota import RateRules
from billing.pricing.cost_cache import CostCache
from core.db.database import Database
from core.errors import ModelNotFound, StoreUnavailable
from core.redis.replies import unavailable
from core.settings.tree import Settings
from files.object_store import ObjectStore
from intake.budget_guard import BudgetGuard
from intake.lifetime.concurrency_limit import ConcurrencyLimit
from intake.lifetime.job_watchers import JobWatchers
from intake.lifetime.request_lifetime import OpenRequests
from intake.media.media_fetcher import MediaFetcher
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.stream.event_hub import EventHub
from jobs.tokenising.tokeniser_client import TokeniserClient

log = structlog.get_logger()

MODELS_SECONDS = 1.0
RETRY_AFTER_SECONDS = 2.0
#: Each export holds a connection to SQL until it ends.
MAX_EXPORTS = 3
MAX_EXPORTS_PER_ACCOUNT = 2


class ModelCache:
    """The model registry, cached for a second; while Redis is down, older entries are used."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._models: dict[str, ServedModel] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def get(self, name: str) -> ServedModel:
        """Return a model.

        Raises:
            ModelNotFound: listing the models that exist.
            StoreUnavailable: Redis is down and the registry was never read.
        """
        await self._refresh()
        if name not in self._models:
            await self._refresh(wait=True)
        if name not in self._models:
            available = ", ".join(self._models) or "none yet"
            raise ModelNotFound(f"Model {name!r} not found. Available: {available}", param="model")
        return self._models[name]

    async def all(self) -> list[ServedModel]:
        """Return every model, ordered by name.

        Raises:
            StoreUnavailable: Redis is down and the registry was never read.
        """
        await self._refresh(wait=True)
        return list(self._models.values())

    async def _refresh(self, *, wait: bool = False) -> None:
        """Read the registry if the cache is old; wait for it if `wait` or if there is no cache."""
        if self._read_at is not None and monotonic() - self._read_at < MODELS_SECONDS:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        if wait or self._read_at is None:
            await asyncio.shield(self._reading)
            if self._read_at is None:
                raise StoreUnavailable(
                    "The models are not known yet", retry_after_seconds=RETRY_AFTER_SECONDS
                )

    async def _read(self) -> None:
        try:
            self._models = {model.name: model for model in await self._registry.list_models()}
        except (RedisError, OSError) as error:
            if unavailable(error) is None:
                raise
            log.warning("models_not_read", error=type(error).__name__)
        else:
            self._read_at = monotonic()


@dataclass(frozen=True, slots=True)
class Services:
    """The shared objects of one process.

    Attributes:
        settings: The process's settings.
        store: Jobs in Redis.
        hub: Events of the jobs that clients of this process follow.
        models: The served models.
        callers: Records of API keys and users.
        accounts: Accounts, users and API keys in SQL.
        database: SQL.
        cost_cache: Prices, and what jobs cost.
        budget_guard: Budget reservations.
        object_store: The bytes of files.
        upload_limit: How many uploads may run at the same time.
        open_requests: Requests that a shutdown must end.
        job_watchers: How many clients watch each job.
        tokeniser: Asks workers' tokenisers.
        export_limit: How many exports may run at the same time.
        rate_rules: What the settings say about the rate limits of all callers.
        media_fetcher: Fetches media from URLs; None if that is off.
    """

    settings: Settings
    store: JobStore
    hub: EventHub
    models: ModelCache
    callers: CallerCache
    directory: Directory
    database: Database
    cost_cache: CostCache
    budget_guard: BudgetGuard
    object_store: ObjectStore
    upload_limit: ConcurrencyLimit
    tokeniser: TokeniserClient
    rate_rules: RateRules
    media_fetcher: MediaFetcher | None = None
    open_requests: OpenRequests = field(default_factory=OpenRequests)
    job_watchers: JobWatchers = field(default_factory=JobWatchers)
    export_limit: ConcurrencyLimit = field(
        default_factory=lambda: ConcurrencyLimit(MAX_EXPORTS, "exports", MAX_EXPORTS_PER_ACCOUNT)
    )
