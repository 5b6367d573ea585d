"""What every route shares: store, hub, models, callers, prices, budgets, and who is still here."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

import structlog
from redis.exceptions import RedisError

from accounts.caller_cache import CallerCache
from accounts.directory import Directory
from api.streaming.download import Slots
from billing.pricing.cost_cache import CostCache
from core.db.engine import Database
from core.errors import ModelNotFound, StoreUnavailable
from core.redis.client import unavailable
from core.settings.tree import Settings
from files.object_store import ObjectStore
from intake.budget_guard import BudgetGuard
from intake.request_lifetime import JobWatchers, OpenRequests
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.stream.event_hub import EventHub

log = structlog.get_logger()

MODELS_SECONDS = 1.0
#: Each takes a connection to the billing database for as long as it lasts.
EXPORTS = 2


class ModelCache:
    """The registry, remembered for a second; an older memory serves while Redis is away."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._known: dict[str, ServedModel] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def get(self, name: str) -> ServedModel:
        """Return one model.

        Raises:
            ModelNotFound: naming the models there are.
            StoreUnavailable: Redis is away and was never read.
        """
        await self._refresh()
        if name not in self._known:
            await self._refresh(needed=True)
        if name not in self._known:
            there = ", ".join(self._known) or "none yet"
            raise ModelNotFound(f"no model {name!r} here; there is: {there}", param="model")
        return self._known[name]

    async def all(self) -> list[ServedModel]:
        """Return every known model by name."""
        await self._refresh(needed=True)
        return list(self._known.values())

    async def _refresh(self, *, needed: bool = False) -> None:
        """Read again when the memory is old; wait for it only when there is none, or `needed`."""
        if self._read_at is not None and monotonic() - self._read_at < MODELS_SECONDS:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        if needed or self._read_at is None:
            await asyncio.shield(self._reading)
            if self._read_at is None:
                raise StoreUnavailable("the models are not known yet", retry_after_seconds=2)

    async def _read(self) -> None:
        try:
            self._known = {model.name: model for model in await self._registry.list_models()}
        except (RedisError, OSError) as error:
            if unavailable(error) is None:
                raise
            log.warning("models_not_read", error=type(error).__name__)
        else:
            self._read_at = monotonic()


@dataclass(frozen=True, slots=True)
class Services:
    """One per process."""

    settings: Settings
    store: JobStore
    hub: EventHub
    models: ModelCache
    callers: CallerCache
    directory: Directory
    database: Database
    costs: CostCache
    budgets: BudgetGuard
    objects: ObjectStore
    uploads: Slots
    closing: OpenRequests = field(default_factory=OpenRequests)
    watchers: JobWatchers = field(default_factory=JobWatchers)
    exports: Slots = field(default_factory=lambda: Slots(EXPORTS, "exports"))
