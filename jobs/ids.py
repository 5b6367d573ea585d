"""Ids that sort by time of creation and cannot be guessed."""

import secrets
import time


def new_id(kind: str) -> str:
    """Return `<kind>_` and hex: 48 bits of milliseconds (as RFC 9562 UUIDv7), 80 random bits."""
    return f"{kind}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
