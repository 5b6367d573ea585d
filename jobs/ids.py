"""Ids that sort by time of creation and cannot be guessed."""

import secrets
import time


def new_id(kind: str) -> str:
    """Return `<kind>_<48-bit milliseconds><80 random bits>` in hex (the layout of RFC 9562 UUIDv7)."""
    return f"{kind}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
