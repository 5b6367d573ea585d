"""Starts one worker process: Celery's consumer in the main thread, our pool beside it."""

import faulthandler
import logging
import os
import socket
import sys

import structlog
from celery import Celery, signals

from core.logs import configure_logs
from core.redis.keys import Keys
from core.runtime.plain_output import wrap_output
from core.runtime.process import read_settings, require_file
from core.settings.tree import Settings
from core.tracing import close_tracing, configure_tracing
from jobs.broker.tickets import TASK_NAME, celery_queue
from jobs.store.store_factory import open_celery

log = structlog.get_logger()


def create_worker_app(settings: Settings) -> Celery:
    """Return the Celery app of a worker that serves one model's queue."""
    app = open_celery(settings)
    keys = Keys(settings.redis.prefix)
    queue = celery_queue(keys, settings.engine.served_name)
    app.conf.update(
        broker_transport="jobs.broker.transport:Transport",
        task_queues=(queue,),
        task_default_queue=queue.name,
        worker_concurrency=settings.engine.slots,
        worker_enable_prefetch_count_reduction=False,
        penstock_settings=settings,
    )
    app.conf.broker_transport_options["dead_tickets_key"] = keys.dead_tickets

    @app.task(name=TASK_NAME, acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_one(version: int) -> None:
        """Never called: the pool passes the ticket to the worker's service instead."""
        raise NotImplementedError(version)

    return app


def run_worker(settings: Settings) -> int:
    """Run until a signal or a fatal error; return the process's exit code."""
    signals.setup_logging.connect(lambda **_: None, weak=False)
    app = create_worker_app(settings)
    worker = app.Worker(
        pool="workers.celery_pool:AsyncioPool",
        hostname=f"penstock@{socket.gethostname()}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def main() -> None:
    """Entry point of `python -m workers`."""
    settings = read_settings("worker")
    require_file("PENSTOCK_ENGINE__CHAT_TEMPLATE", settings.engine.chat_template)
    faulthandler.enable()  # a crash in native code prints every thread's Python stack to stderr
    if settings.log.format == "json":
        configure_logs(settings.log, "worker", wrap_output("worker"))
    configure_tracing(settings.trace, "worker")
    code = run_worker(settings)
    close_tracing()
    # A normal exit tears down torch and vLLM for seconds, and nothing is left to save.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
