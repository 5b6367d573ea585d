"""Ids that sort by time of creation and cannot be guessed; which ids of clients can exist.

Invariant: no random bytes are used twice, neither by two threads nor on both sides of a fork.
"""

import os
import time
from collections import deque

RANDOM_BYTES = 10
#: Random bytes are fetched for this many ids together, because the system call costs most.
IDS_AT_ONCE = 256

_random_parts: deque[str] = deque()
os.register_at_fork(after_in_child=_random_parts.clear)


def _random_part() -> str:
    while True:
        try:
            return _random_parts.popleft()  # atomic
        except IndexError:
            width = 2 * RANDOM_BYTES
            block = os.urandom(RANDOM_BYTES * IDS_AT_ONCE).hex()
            _random_parts.extend(block[i : i + width] for i in range(0, len(block), width))


def new_id(kind: str) -> str:
    """Return `<kind>_` and hex: 48 bits of milliseconds (as RFC 9562 UUIDv7), 80 random bits."""
    return f"{kind}_{time.time_ns() // 1_000_000:012x}{_random_part()}"


def can_exist(text: str) -> bool:
    """Return whether an id that a client sent may be looked up in SQL.

    No stored text has NUL, and PostgreSQL fails at a query with one.
    """
    return "\0" not in text
