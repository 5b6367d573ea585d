"""Builds the job store, and the Celery app behind its tickets, from the settings."""

from celery import Celery

from core.redis.client import connect
from core.settings.tree import Settings
from jobs.broker.tickets import create_celery, ticket_template
from jobs.store.job_store import JobStore


def open_celery(settings: Settings) -> Celery:
    """Return the Celery app; it opens no connection yet."""
    return create_celery(settings.redis, settings.worker)


def open_store(settings: Settings) -> JobStore:
    """Return a job store; connections open on first use."""
    return JobStore(connect(settings.redis), settings, ticket_template(open_celery(settings)))
