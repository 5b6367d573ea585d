"""Makes the attempts that are due, on an event loop of its own, and purges old events.

Invariant: an attempt is claimed in SQL, made, and its result stored. If the process is killed
before the result is stored, another process makes the attempt again: a receiver may see an id
twice, and never misses one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import structlog

from core import metrics
from core.db.database import Database
from core.db.tables.base import now
from core.errors import DatabaseUnavailable, StoreUnavailable
from core.redis.client import accepts_writes, connect
from core.redis.keys import Keys
from core.settings.tree import Settings
from webhooks.attempt_results import GONE, AttemptResult, record_results
from webhooks.batched_calls import BatchedCalls
from webhooks.concurrency_limits import ConcurrencyLimits
from webhooks.deliveries import ClaimedDelivery, backlog, claim, find_due, purge
from webhooks.dns_resolver import Resolve, Resolver
from webhooks.retry_schedule import pause_seconds
from webhooks.sender import Sender, SendOutcome
from webhooks.signing import sign
from webhooks.tickets import DeliveryTicket, push_tickets

log = structlog.get_logger()

POLL_SECONDS = 1.0
PURGE_SECONDS = 600.0

#: How often storing a result is tried; if all tries fail, the delivery is attempted again.
RECORD_TRIES = 5
#: How much longer than an attempt a claim lasts: time to store the result.
MARGIN_SECONDS = 15.0


class Deliverer:
    """The deliveries of one process.

    Args:
        settings: the installation's settings.
        resolve: replaces the system's DNS resolver, in tests.
    """

    def __init__(self, settings: Settings, resolve: Resolve | None = None) -> None:
        self._settings = settings.webhooks
        self._keys = Keys(settings.redis.prefix)
        self._redis = connect(settings.redis)
        self._database = Database(settings.database, "deliverer")
        self._resolver = Resolver(2 * self._settings.concurrency)
        self._sender = Sender(self._settings, resolve or self._resolver)
        self._limits = ConcurrencyLimits(
            self._settings.concurrency,
            self._settings.concurrency_per_host,
            self._settings.concurrency_per_account,
        )
        self._claim = BatchedCalls(self._claim_all, self._settings.concurrency)
        self._record = BatchedCalls(self._record_all, self._settings.concurrency)
        #: Why tickets cannot be queued now; None if all is well.
        self.problem: str | None = "has not looked for deliveries yet"
        self._closing = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start polling for due deliveries and purging old events."""
        self._background = [
            asyncio.create_task(self._repeat(work, seconds))
            for work, seconds in (
                (self._poll, POLL_SECONDS),
                (self._purge, PURGE_SECONDS),
            )
        ]

    async def close(self) -> None:
        """Stop; all attempts must have ended."""
        self._closing.set()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._sender.close()
        self._resolver.close()
        await self._database.close()
        await self._redis.aclose()

    def begin_close(self) -> None:
        """Start no more attempts; running ones continue to their end."""
        self._closing.set()

    @property
    def running(self) -> int:
        """The number of running attempts."""
        return self._limits.running

    async def backlog(self) -> tuple[int, float]:
        """Return how many deliveries are due, and for how many seconds the oldest has been.

        Raises:
            DatabaseUnavailable: SQL does not answer.
        """
        return await backlog(self._database)

    async def serve(self, ticket: DeliveryTicket) -> None:
        """Make a ticket's attempt, then those that waited for its place."""
        if self._closing.is_set() or not self._limits.enter(ticket):
            return
        current: DeliveryTicket | None = ticket
        while current is not None:
            try:
                await self._attempt(current.id)
            except BaseException:
                self._limits.close(current)
                raise
            if self._closing.is_set():
                self._limits.close(current)
                return
            current = self._limits.next(current)

    async def _attempt(self, name: str) -> None:
        try:
            delivery = await self._claim(name)
        except DatabaseUnavailable:
            return  # the delivery stays due
        if delivery is None:
            return
        at = now()
        headers = sign(delivery.event_id, at, delivery.payload, delivery.keys)
        outcome = await self._sender.send(delivery.url, delivery.payload.encode(), headers)
        result = AttemptResult(delivery, outcome, at, self._next_attempt(delivery, outcome))
        metrics.webhook_seconds.observe(outcome.milliseconds / 1000)
        metrics.webhook_attempts.labels(_label(result)).inc()
        disabled_why = await self._store_result(result)
        _log_result(result, disabled_why)

    def _next_attempt(self, delivery: ClaimedDelivery, outcome: SendOutcome) -> datetime | None:
        """Return when it is tried again; None when it is not."""
        if outcome.accepted or outcome.status == GONE:
            return None
        pause = pause_seconds(self._settings.pauses, delivery.attempts + 1, outcome.retry_after)
        return None if pause is None else now() + timedelta(seconds=pause)

    async def _store_result(self, result: AttemptResult) -> str:
        for tried in range(RECORD_TRIES):
            try:
                return await self._record(result)
            except DatabaseUnavailable:
                log.warning("webhook_result_waits", id=result.delivery.id)
            if self._closing.is_set():
                break  # do not delay the shutdown
            await asyncio.sleep(2.0**tried)
        log.error("webhook_result_lost", id=result.delivery.id)
        return ""

    async def _claim_all(self, ids: Sequence[str]) -> Sequence[ClaimedDelivery | None]:
        return await claim(self._database, ids, self._settings.total_seconds + MARGIN_SECONDS)

    async def _record_all(self, results: Sequence[AttemptResult]) -> Sequence[str]:
        after = timedelta(days=self._settings.disable_after_days)
        return await record_results(self._database, results, after)

    async def _repeat(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await work()
            except (DatabaseUnavailable, StoreUnavailable) as error:
                log.warning("webhooks_wait", missing=error.code)
            await asyncio.sleep(seconds)

    async def _poll(self) -> None:
        """Queue tickets for due deliveries that have none: retries, and lost tickets."""
        try:
            await accepts_writes(self._redis, self._keys)
            await push_tickets(self._redis, self._keys, await find_due(self._database))
        except (DatabaseUnavailable, StoreUnavailable) as error:
            self.problem = f"waits: {error.code}"
            raise
        self.problem = None

    async def _purge(self) -> None:
        before = now() - timedelta(days=self._settings.retention_days)
        while await purge(self._database, before):
            pass


def _label(result: AttemptResult) -> str:
    if result.outcome.accepted:
        return "delivered"
    return "retry" if result.due_at else "failed"


def _log_result(result: AttemptResult, disabled_why: str) -> None:
    """Log a failure; never the path of the URL, which may hold a secret."""
    delivery, failure = result.delivery, result.outcome.failure
    if disabled_why:
        metrics.webhooks_disabled.inc()
        log.error("webhook_endpoint_disabled", endpoint=delivery.target, why=disabled_why)
    if failure and result.due_at is None:
        log.error("webhook_given_up", id=delivery.id, event_id=delivery.event_id, failure=failure)
    elif failure:
        log.warning("webhook_not_delivered", id=delivery.id, failure=failure)
