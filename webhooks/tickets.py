"""Tickets: Celery messages that each name one delivery which is due.

Invariant: SQL says what is due; a ticket only makes a process look immediately. A lost ticket is
made again by the poll, and a duplicate finds the delivery claimed.
"""

import base64
import json
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from celery import Celery
from redis.asyncio import Redis

from core.redis.client import guarded
from core.redis.keys import Keys
from jobs.broker.tickets import envelope

TASK_NAME = "penstock.deliver_webhook"

#: Cap on tickets in the queue; the poll finds due deliveries without tickets, too.
MAX_QUEUED_TICKETS = 5_000


class DeliveryTicket(NamedTuple):
    """One delivery; concurrency limits go by `account` and `host`."""

    id: str
    account: str
    host: str


@lru_cache(maxsize=1)
def _envelope() -> tuple[dict[str, Any], dict[str, Any]]:
    app = Celery("penstock", set_as_current=False)
    return envelope(app, TASK_NAME, ())


def message(ticket: DeliveryTicket, queue: str) -> str:
    """Return a ticket as Celery's message, in the form that `apply_async` would send."""
    payload, embedded = _envelope()
    tag = str(uuid.uuid4())
    body = json.dumps([[*ticket], {}, embedded]).encode()
    headers = {**payload["headers"], "id": tag, "root_id": tag, "argsrepr": repr(tuple(ticket))}
    properties = {
        **payload["properties"],
        "correlation_id": tag,
        "delivery_tag": tag,
        "delivery_info": {"exchange": "", "routing_key": queue},
    }
    return json.dumps(
        {
            **payload,
            "body": base64.b64encode(body).decode(),
            "headers": headers,
            "properties": properties,
        }
    )


async def push_tickets(redis: Redis, keys: Keys, tickets: Sequence[DeliveryTicket]) -> int:
    """Push tickets to the queue, up to MAX_QUEUED_TICKETS in it; returns how many were pushed.

    Raises:
        StoreUnavailable: some or all were not pushed; the poll makes them again.
    """
    client: Any = redis
    if not tickets:
        return 0
    async with guarded():
        room = max(0, MAX_QUEUED_TICKETS - int(await client.llen(keys.webhooks)))
        messages = [message(ticket, keys.webhooks) for ticket in tickets[:room]]
        if messages:
            await client.lpush(keys.webhooks, *messages)
    return len(messages)
