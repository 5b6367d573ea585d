"""Signatures as Standard Webhooks 1.0 has them, and the secrets they are made with.

Invariant: during a rotation every delivery carries both signatures, so that a receiver may change
its secret at any moment of it.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks.webhooks import Webhook

SECRET_BYTES = 32
PREFIX = "whsec_"


def new_secret() -> str:
    """Return a secret of 256 random bits, as receivers' libraries read it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign(name: str, at: datetime, body: str, keys: Sequence[str]) -> dict[str, str]:
    """Return the headers of a delivery, signed with each of the secrets."""
    signatures = (Webhook(key).sign(name, at, body) for key in keys)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def valid_keys(
    secret: str, previous: str | None, until: datetime | None, at: datetime
) -> list[str]:
    """Return the secrets that count at an instant, the present one first."""
    if previous is not None and until is not None and until > at:
        return [secret, previous]
    return [secret]
