"""What a key and its account may ask for in a minute, have waiting and have running.

The script that accepts a job checks all of it and takes from every bucket, or from none, so the
limits are exact whatever is submitted at once and by however many processes. A bucket holds one
minute's worth and refills evenly (`scripts/lib.lua` says by which algorithm). Tokens are estimated
when a job is accepted and become the real number when it ends, however it ends. Invariant: a
refused or repeated request pays nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import orjson

from accounts.caller import Limits
from jobs.store.budget_reservations import ACCOUNT

Kind = Literal["requests", "tokens"]

#: What the scripts count in: so many parts of a request or token.
PARTS = 60_000

#: Beyond this a minute's worth is no whole number in a script any more; nobody gets there.
MOST = 10**10


class RateLimit(NamedTuple):
    """So many requests or tokens a minute, of one key or (`ACCOUNT`) of a whole account."""

    scope: str
    kind: Kind
    limit: int

    @property
    def whose(self) -> Literal["account", "key"]:
        """Say in one word whose limit it is."""
        return "account" if self.scope == ACCOUNT else "key"


class Quota(NamedTuple):
    """Everything that limits one key, made once: `words` is what `submit.lua` takes."""

    rates: tuple[RateLimit, ...]
    account_running: int
    account_queued: int
    words: bytes


class RateLimitStatus(NamedTuple):
    """What is left of a rate, and how long until all of it is there again."""

    rate: RateLimit
    remaining: int
    reset_ms: int


UNLIMITED = Quota((), 0, 0, b"")


@lru_cache(maxsize=4096)
def quota_of(account: str, key_id: str, key: Limits, whole: Limits) -> Quota:
    """Return what limits a key: its own limits and its account's."""
    rates = tuple(
        RateLimit(scope, kind, min(limit, MOST))
        for scope, limits in ((key_id, key), (ACCOUNT, whole))
        for kind, limit in _per_minute(limits)
        if limit
    )
    own = bool(key.max_running or key.max_queued)
    words = b""
    if own or rates:
        words = orjson.dumps(
            {
                "group": f"{account}/{key_id}" if own else "",
                "running": key.max_running,
                "queued": key.max_queued,
                "rates": [list(rate) for rate in rates],  # orjson takes no named tuples
            }
        )
    return Quota(rates, whole.max_running, whole.max_queued, words)


def _per_minute(limits: Limits) -> tuple[tuple[Kind, int], ...]:
    return ("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)


def standings(rates: Sequence[RateLimit], levels: Sequence[bytes]) -> tuple[RateLimitStatus, ...]:
    """Read the levels of buckets, as a script returns them."""
    return tuple(_standing(rate, int(level)) for rate, level in zip(rates, levels, strict=False))


def _standing(rate: RateLimit, level: int) -> RateLimitStatus:
    left = max(0, rate.limit * PARTS - level)
    return RateLimitStatus(rate, left // PARTS, -(-level // rate.limit))
