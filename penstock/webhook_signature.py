"""Checks that a delivery of a webhook is the server's: Standard Webhooks 1.0.

Invariant: signatures are compared in constant time, over the bytes that arrived.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from penstock.errors import InvalidSignatureError

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> dict[str, Any]:
    """Return the event of a delivery.

    Args:
        body: The body exactly as it was received.
        headers: The headers of the request, with names in any case.
        secret: The secret of the webhook, `whsec_...`.
        tolerance_seconds: How far its time may differ from this machine's clock.

    Raises:
        InvalidSignatureError: It is not signed with this secret, or is too old or too new.
        ValueError: The secret is none.
    """
    key = _key(secret)
    named = {name.lower(): value for name, value in headers.items()}
    try:
        name, sent, signatures = (
            named[f"webhook-{one}"] for one in ("id", "timestamp", "signature")
        )
    except KeyError as error:
        raise InvalidSignatureError(f"the header {error} is missing") from None
    _check_age(sent, tolerance_seconds)
    content = body.encode() if isinstance(body, str) else body
    signed = b".".join((name.encode(), sent.encode(), content))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    given = (one.partition(",") for one in signatures.split())
    matching = [
        hmac.compare_digest(signature.encode(), expected)
        for version, _, signature in given
        if version == "v1"
    ]
    if not any(matching):
        raise InvalidSignatureError("no signature is made with this secret")
    event: dict[str, Any] = json.loads(content)
    return event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"secret: expected {PREFIX} and base64")
    return key


def _check_age(sent: str, tolerance_seconds: float) -> None:
    if not (sent.isascii() and sent.isdigit()):
        raise InvalidSignatureError("webhook-timestamp: expected Unix seconds")
    if abs(time.time() - int(sent)) > tolerance_seconds:
        raise InvalidSignatureError("the delivery is too old or too new: compare the clocks")
