"""Starts a process that delivers webhooks: a Celery worker whose tasks are delivery tickets.

Celery passes each ticket to a thread, which waits until the event loop has made the attempt; then
the ticket is acknowledged. Invariant: after a signal the process ends within about one attempt, and
each delivery that it did not make is due in SQL.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

import structlog
from celery import Celery, signals
from kombu import Queue

from core import metrics
from core.exposition import Exposition
from core.logs import configure_logs
from core.redis.keys import Keys
from core.runtime.health_server import HealthServer
from core.runtime.plain_output import wrap_output
from core.runtime.process import read_settings, require_file
from core.settings.tree import Settings
from jobs.store.store_factory import open_celery
from webhooks.deliverer import Deliverer
from webhooks.metrics_collector import DueCollector
from webhooks.tickets import TASK_NAME, DeliveryTicket

log = structlog.get_logger()

CLOSE_SECONDS = 10.0

Result = TypeVar("Result")


class DelivererLoop:
    """An asyncio loop in a thread, and the deliverer that runs on it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio", daemon=True)
        self._deliverer: Deliverer | None = None

    def start(self) -> None:
        """Start the loop and the deliverer."""
        self._thread.start()
        self._run(self._open()).result()

    async def _open(self) -> None:
        self._deliverer = Deliverer(self._settings)
        self._deliverer.start()

    def serve(self, ticket: DeliveryTicket) -> None:
        """Wait until a ticket's attempt has been made."""
        assert self._deliverer is not None
        try:
            self._run(self._deliverer.serve(ticket)).result()
        except CancelledError:
            log.warning("webhook_abandoned", id=ticket.id)  # due again when its claim ends

    def begin_close(self) -> None:
        """Accept no more tickets."""
        assert self._deliverer is not None
        self._loop.call_soon_threadsafe(self._deliverer.begin_close)

    def close(self) -> None:
        """Close connections and stop the loop."""
        assert self._deliverer is not None
        self._run(self._deliverer.close()).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    def exposition(self) -> Exposition:
        """Return the metrics of this process."""
        assert self._deliverer is not None
        due = DueCollector(self._deliverer, self._loop)
        return Exposition("deliverer", metrics.WEBHOOKS, due)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def problem(self) -> str | None:
        """Return why a restart is needed; None if it is not."""
        return None if self._thread.is_alive() else "the event loop has stopped"

    @property
    def unready(self) -> str | None:
        """Return why no delivery can be made now; None if it can."""
        assert self._deliverer is not None
        return self.problem or self._deliverer.problem


def create_app(settings: Settings, loop: DelivererLoop) -> Celery:
    """Return the Celery app of a deliverer process."""
    app = open_celery(settings)
    keys = Keys(settings.redis.prefix)
    app.conf.update(
        broker_transport="jobs.broker.transport:Transport",
        task_queues=(Queue(keys.webhooks, routing_key=keys.webhooks),),
        task_default_queue=keys.webhooks,
        worker_concurrency=settings.webhooks.concurrency,
    )
    app.conf.broker_transport_options["dead_tickets_key"] = keys.dead_tickets

    @app.task(name=TASK_NAME, acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
    def deliver(name: str, account: str, host: str) -> None:
        """Make the attempt that a ticket asks for."""
        loop.serve(DeliveryTicket(name, account, host))

    return app


def run(settings: Settings) -> int:
    """Run until a signal; return the exit code."""
    signals.setup_logging.connect(lambda **_: None, weak=False)
    loop = DelivererLoop(settings)
    loop.start()
    signals.worker_shutting_down.connect(lambda **_: loop.begin_close(), weak=False)
    own = settings.webhooks
    health = HealthServer(
        own.health_host,
        own.health_port,
        lambda: loop.problem,
        lambda: loop.unready,
        loop.exposition(),
        settings.metrics.token,
    )
    health.start()
    worker = create_app(settings, loop).Worker(
        pool="threads",
        hostname=f"penstock-deliverer@{socket.gethostname()}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    log.info("deliverer_started")
    worker.start()
    loop.close()
    log.info("deliverer_stopped")
    return int(worker.exitcode or 0)


def main() -> int:
    """Entry point of `python -m webhooks`."""
    settings = read_settings("deliverer")
    require_file("PENSTOCK_WEBHOOKS__CA_FILE", settings.webhooks.ca_file)
    if settings.log.format == "json":
        configure_logs(settings.log, "deliverer", wrap_output("deliverer"))
    try:
        return run(settings)
    finally:
        logging.shutdown()
