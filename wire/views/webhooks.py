"""Objects of the webhook routes: endpoints, deliveries, secrets. Times are Unix seconds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from webhooks.account_secrets import AccountSecret
from webhooks.delivery_history import Delivery, DeliveryAttempt
from webhooks.endpoints import Endpoint

ENDPOINT_PREFIX = "whe_"


def endpoint_object(endpoint: Endpoint) -> dict[str, Any]:
    """Build an endpoint object, with the secret if it was just created."""
    fields = {
        "id": endpoint.id,
        "object": "webhook",
        "url": endpoint.url,
        "events": list(endpoint.events),
        "description": endpoint.description,
        "created_at": endpoint.created_at.timestamp(),
        "failing_since": _seconds(endpoint.failing_since),
        "disabled_at": _seconds(endpoint.disabled_at),
        "disabled_why": endpoint.disabled_why or None,
        "previous_secret_until": _seconds(endpoint.previous_until),
    }
    return fields if endpoint.secret is None else {**fields, "secret": endpoint.secret}


def secret_object(secret: AccountSecret) -> dict[str, Any]:
    """Build the object of an account's secret."""
    return {
        "object": "webhook.secret",
        "secret": secret.secret,
        "created_at": secret.created_at.timestamp(),
        "previous_secret_until": _seconds(secret.previous_until),
    }


def delivery_object(delivery: Delivery, *, log: bool = False) -> dict[str, Any]:
    """Build a delivery object, with the attempts if `log` is set."""
    fields = {
        "id": delivery.id,
        "object": "webhook.delivery",
        "event": delivery.event_id,
        "type": delivery.event_type,
        "webhook": delivery.target if delivery.target.startswith(ENDPOINT_PREFIX) else None,
        "url": delivery.url,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at.timestamp(),
        "next_attempt_at": _seconds(delivery.due_at),
        "completed_at": _seconds(delivery.done_at),
        "failure": delivery.failure or None,
    }
    return {**fields, "log": _log(delivery.log)} if log else fields


def _log(log: Sequence[DeliveryAttempt]) -> list[dict[str, Any]]:
    return [
        {
            "at": attempt.at.timestamp(),
            "status": attempt.status,
            "seconds": attempt.milliseconds / 1000,
            "failure": attempt.failure or None,
        }
        for attempt in log
    ]


def _seconds(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()
