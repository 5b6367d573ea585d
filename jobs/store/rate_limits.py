"""Rate limits and caps of a caller, as the script that accepts a job takes them.

The script checks all of them and takes from every bucket, or from none, so the limits are exact
however many processes submit concurrently. A bucket holds a burst, by default one minute's worth,
and drains evenly (`scripts/lib.lua` names the algorithm). Tokens are estimated when a job is
accepted and replaced by the real number when it ends, however it ends. Invariant: a refused or
repeated request costs nothing. `scripts/submit.lua` computes how long a refused caller must wait
(Retry-After).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import orjson

from jobs.store.budget_reservations import ACCOUNT

Kind = Literal["requests", "tokens"]

#: The scripts count in this fraction of a request or token.
RATE_PARTS = 60_000

#: The burst of a rate unless a setting says otherwise, in milliseconds' worth of the rate.
MINUTE_MS = 60_000

#: The highest limit per minute. With the longest burst, five minutes, a bucket's level is still a
#: whole number in Lua.
MOST = 10**10

#: The first character of the scope of a client address. No key's id has it.
ADDRESS = "@"
#: That of a user's id; no key's id has it.
USER = "user_"


class RateLimit(NamedTuple):
    """A rate limit: at most `limit` requests or tokens per minute.

    Attributes:
        scope: A key's or a user's id, `ACCOUNT` for a whole account, or a client address after
            `ADDRESS`, which all accounts share.
        kind: What is counted.
        limit: How many per minute.
        burst_ms: How many milliseconds' worth may be taken at once.
    """

    scope: str
    kind: Kind
    limit: int
    burst_ms: int = MINUTE_MS

    @property
    def owner(self) -> Literal["account", "address", "key", "user"]:
        """Return what the limit belongs to."""
        if self.scope.startswith(ADDRESS):
            return "address"
        if self.scope.startswith(USER):
            return "user"
        return "account" if self.scope == ACCOUNT else "key"

    @property
    def burst(self) -> int:
        """How many may be taken at once."""
        return self.limit * self.burst_ms // MINUTE_MS


class Quota(NamedTuple):
    """Everything that limits one caller; 0 is no limit.

    Attributes:
        rates: Rates of the key, of its account and of the client's address.
        account_running: Most jobs of the account that run at a time.
        account_queued: Most jobs of the account that wait.
        script_args: JSON of the rates and the key's own caps for `submit.lua`, empty without any.
    """

    rates: tuple[RateLimit, ...]
    account_running: int
    account_queued: int
    script_args: bytes


class RateLimitStatus(NamedTuple):
    """What is left of a rate, and the milliseconds until all of it is available again."""

    rate: RateLimit
    remaining: int
    reset_ms: int


UNLIMITED = Quota((), 0, 0, b"")


def make_quota(
    group: str,
    rates: tuple[RateLimit, ...],
    *,
    key_running: int = 0,
    key_queued: int = 0,
    account_running: int = 0,
    account_queued: int = 0,
) -> Quota:
    """Return a quota.

    Args:
        group: Name under which the key's own jobs are counted, `<account>/<key id>`.
        rates: Rates of the key, its account and the client's address; limits above MOST are
            taken as MOST.
        key_running: Most jobs of the key that run at a time, 0 for no cap.
        key_queued: Most jobs of the key that wait, 0 for no cap.
        account_running: The same for its whole account.
        account_queued: The same for its whole account.
    """
    rates = tuple(rate._replace(limit=min(rate.limit, MOST)) for rate in rates)
    own = bool(key_running or key_queued)
    script_args = b""
    if own or rates:
        script_args = orjson.dumps(
            {
                "group": group if own else "",
                "running": key_running,
                "queued": key_queued,
                "rates": [list(rate) for rate in rates],  # orjson takes no named tuples
            }
        )
    return Quota(rates, account_running, account_queued, script_args)


def rate_limit_statuses(
    rates: Sequence[RateLimit], levels: Sequence[bytes]
) -> tuple[RateLimitStatus, ...]:
    """Return the status of each rate from the levels of its bucket, as a script returns them."""
    return tuple(_status(rate, int(level)) for rate, level in zip(rates, levels, strict=False))


def _status(rate: RateLimit, level: int) -> RateLimitStatus:
    left = max(0, rate.limit * rate.burst_ms - level)
    return RateLimitStatus(rate, left // RATE_PARTS, -(-level // rate.limit))
