"""Signatures and secrets by Standard Webhooks 1.0 (standardwebhooks.com).

Invariant: during a rotation every delivery carries both signatures, so that a receiver may change
its secret at any moment.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks.webhooks import Webhook

SECRET_BYTES = 32
PREFIX = "whsec_"


def new_secret() -> str:
    """Return a new secret: `whsec_` and 256 random bits in base64, as Standard Webhooks defines."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(name: str, at: datetime, body: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the headers of a delivery, with one signature (HMAC-SHA256) per secret.

    Args:
        name: the event's id, sent as `webhook-id`.
        at: when the attempt is made, sent as Unix seconds in `webhook-timestamp`.
        body: the JSON document, exactly as it is sent.
        keys: the secrets that are valid now, the current one first.
    """
    signatures = (Webhook(key).sign(name, at, body) for key in keys)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def valid_keys(
    secret: str, previous: str | None, until: datetime | None, at: datetime
) -> list[str]:
    """Return the secrets that are valid at an instant, the current one first."""
    if previous is not None and until is not None and until > at:
        return [secret, previous]
    return [secret]
