"""Tickets: real Celery messages that say "this queue has one more job", and nothing else.

Invariant: a ticket carries no job id. Losing or doubling one can neither lose nor double a
job: a surplus ticket finds nothing, and the sweeper adds missing ones.
"""

import json
from typing import Any

from celery import Celery
from kombu import Connection, Queue
from kombu.serialization import dumps

from core.redis.keys import Keys
from core.settings.redis import RedisSettings
from core.settings.workers import WorkerSettings

TASK_NAME = "penstock.run_one"
VERSION = 1


def create_celery(redis: RedisSettings, worker: WorkerSettings) -> Celery:
    """Return a Celery app bound to our broker; it never stores results."""
    app = Celery("penstock", broker=redis.url.get_secret_value(), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        accept_content=["json"],
        task_serializer="json",
        broker_transport_options={
            "visibility_timeout": worker.visibility_seconds,
            # Only a net: the sweeper adds missing tickets within half a second.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": redis.timeout_seconds,
            "socket_connect_timeout": redis.timeout_seconds,
            "socket_keepalive": True,
            "health_check_interval": 5,
            # kombu's own bookkeeping, under our prefix like everything else.
            "unacked_key": f"{redis.prefix}:unacked",
            "unacked_index_key": f"{redis.prefix}:unacked_index",
            "unacked_mutex_key": f"{redis.prefix}:unacked_mutex",
        },
    )
    return app


def celery_queue(keys: Keys, queue: str) -> Queue:
    """Return the Celery queue of one model; direct, named like its Redis list."""
    name = keys.tickets(queue)
    return Queue(name, routing_key=name)


def ticket_template(app: Celery) -> str:
    """Return the wire form of a ticket with `@QUEUE@` and `@TAG@` where the scripts fill in."""
    payload, _ = envelope(app, TASK_NAME, (VERSION,))
    payload["properties"].update(
        delivery_info={"exchange": "", "routing_key": "@QUEUE@"}, delivery_tag="@TAG@"
    )
    return json.dumps(payload)


def envelope(
    app: Celery, task: str, args: tuple[object, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a message for a task, and what its body says besides the arguments.

    Built by Celery (message protocol 2) and kombu's virtual transport, so it is by
    construction what `apply_async` would have sent.
    """
    message = app.amqp.as_task_v2("@TAG@", task, args=args, origin="penstock")
    content_type, content_encoding, body = dumps(message.body, serializer="json")
    with Connection("memory://") as connection:
        channel = connection.channel()
        payload: dict[str, Any] = channel.prepare_message(
            body,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=message.headers,
            properties={**message.properties, "delivery_mode": 2},
        )
        payload["body"], body_encoding = channel.encode_body(body, "base64")
    payload["properties"].update(body_encoding=body_encoding)
    return payload, message.body[2]
