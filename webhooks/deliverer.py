"""Delivers what is due, on a loop of its own, and keeps the tables short.

Invariant: each attempt is taken in SQL, made, and written down. Killed between making one and
writing it down, another process makes it again: a receiver may see an id twice, and never misses
one.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog

from billing.errors import DatabaseUnavailable
from core import metrics
from core.db.engine import Database
from core.db.tables.base import now
from core.errors import StoreUnavailable
from core.redis.client import connect
from core.redis.keys import Keys
from core.settings.tree import Settings
from webhooks.attempt_results import GONE, AttemptResult, settle
from webhooks.batched_calls import BatchedCalls
from webhooks.concurrency_limits import ConcurrencyLimits
from webhooks.deliveries import ClaimedDelivery, backlog, find_due, purge, take
from webhooks.dns_resolver import Resolve, Resolver
from webhooks.retry_schedule import pause_seconds
from webhooks.sender import Sender, SendOutcome
from webhooks.signing import sign
from webhooks.tickets import DeliveryTicket, push_tickets

log = structlog.get_logger()

LOOK_SECONDS = 1.0
PURGE_SECONDS = 600.0

#: A result that cannot be written down is forgotten in the end; then it is delivered again.
SETTLE_TRIES = 5
#: How much longer than an attempt a delivery is kept from others: for writing it down.
MARGIN_SECONDS = 15.0


class Deliverer:
    """One process's worth of deliveries."""

    def __init__(self, settings: Settings, resolve: Resolve | None = None) -> None:
        self._settings = settings.webhooks
        self._keys = Keys(settings.redis.prefix)
        self._redis = connect(settings.redis)
        self._database = Database(settings.database, "deliverer")
        self._resolver = Resolver(2 * self._settings.concurrency)
        self._sender = Sender(self._settings, resolve or self._resolver)
        self._lanes = ConcurrencyLimits(
            self._settings.concurrency_per_host, self._settings.concurrency_per_account
        )
        self._take = BatchedCalls(self._take_all, self._settings.concurrency)
        self._settle = BatchedCalls(self._settle_all, self._settings.concurrency)
        self._closing = asyncio.Event()
        self._beside: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look for what is due."""
        self._beside = [
            asyncio.create_task(self._repeat(work, seconds), name=work.__name__)
            for work, seconds in (
                (self._look, LOOK_SECONDS),
                (self._purge, PURGE_SECONDS),
            )
        ]

    async def close(self) -> None:
        """Stop; what is under way must have ended."""
        self._closing.set()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._sender.close()
        self._resolver.close()
        await self._database.close()
        await self._redis.aclose()

    def begin_close(self) -> None:
        """Take up nothing more; what is under way goes on to its end."""
        self._closing.set()

    @property
    def running(self) -> int:
        """How many attempts are under way."""
        return self._lanes.running

    async def backlog(self) -> tuple[int, float]:
        """Return how many deliveries are due, and for how many seconds the oldest has been.

        Raises:
            DatabaseUnavailable: it cannot be told.
        """
        return await backlog(self._database)

    async def serve(self, ticket: DeliveryTicket) -> None:
        """Make the attempt that a ticket asks for, and those that waited for its place."""
        if self._closing.is_set() or not self._lanes.enter(ticket):
            return
        current: DeliveryTicket | None = ticket
        while current is not None:
            try:
                await self._attempt(current.id)
            except BaseException:
                self._lanes.close(current)
                raise
            if self._closing.is_set():
                self._lanes.close(current)
                return
            current = self._lanes.next(current)

    async def _attempt(self, name: str) -> None:
        try:
            taken = await self._take(name)
        except DatabaseUnavailable:
            return  # it stays due
        if taken is None:
            return
        at = now()
        headers = sign(taken.event_id, at, taken.payload, taken.keys)
        outcome = await self._sender.send(taken.url, taken.payload.encode(), headers)
        result = AttemptResult(taken, outcome, at, self._next(taken, outcome))
        metrics.webhook_seconds.observe(outcome.milliseconds / 1000)
        metrics.webhook_attempts.labels(_word(result)).inc()
        why = await self._write_down(result)
        _say(result, why)

    def _next(self, taken: ClaimedDelivery, outcome: SendOutcome) -> Any:
        """Return when it is tried again; None when it is not."""
        if outcome.taken or outcome.status == GONE:
            return None
        pause = pause_seconds(self._settings.pauses, taken.attempts + 1, outcome.retry_after)
        return None if pause is None else now() + timedelta(seconds=pause)

    async def _write_down(self, result: AttemptResult) -> str:
        for tried in range(SETTLE_TRIES):
            try:
                return await self._settle(result)
            except DatabaseUnavailable:
                log.warning("webhook_result_waits", id=result.taken.id)
            if self._closing.is_set():
                break  # who stops waits for nobody
            await asyncio.sleep(2.0**tried)
        log.error("webhook_result_lost", id=result.taken.id)
        return ""

    async def _take_all(self, ids: Sequence[str]) -> Sequence[ClaimedDelivery | None]:
        return await take(self._database, ids, self._settings.total_seconds + MARGIN_SECONDS)

    async def _settle_all(self, results: Sequence[AttemptResult]) -> Sequence[str]:
        after = timedelta(days=self._settings.disable_after_days)
        return await settle(self._database, results, after)

    async def _repeat(self, work: Any, seconds: float) -> None:
        while True:
            try:
                await work()
            except (DatabaseUnavailable, StoreUnavailable) as error:
                log.warning("webhooks_wait", missing=error.code, work=work.__name__)
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        """Make tickets for what is due and has none: retries, and whatever was lost."""
        await push_tickets(self._redis, self._keys, await find_due(self._database))

    async def _purge(self) -> None:
        before = now() - timedelta(days=self._settings.retention_days)
        while await purge(self._database, before):
            pass


def _word(result: AttemptResult) -> str:
    if result.outcome.taken:
        return "delivered"
    return "retry" if result.due_at else "failed"


def _say(result: AttemptResult, why: str) -> None:
    """Log what somebody may have to look at; never the URL's path, which may hold a secret."""
    taken, failure = result.taken, result.outcome.failure
    if why:
        metrics.webhooks_disabled.inc()
        log.error("webhook_endpoint_disabled", endpoint=taken.target, why=why)
    if failure and result.due_at is None:
        log.error("webhook_given_up", id=taken.id, event_id=taken.event_id, failure=failure)
    elif failure:
        log.warning("webhook_not_delivered", id=taken.id, failure=failure)
