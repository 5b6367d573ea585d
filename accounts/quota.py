"""Turns the limits of a caller into the quota that the job store checks."""

from functools import lru_cache
from typing import NamedTuple

from accounts.bounds import tighter
from accounts.caller import NO_LIMITS, Limits
from accounts.login_throttle import site_of
from core.settings.api import LimitSettings
from jobs.store.budget_reservations import ACCOUNT
from jobs.store.rate_limits import ADDRESS, MINUTE_MS, Kind, Quota, RateLimit, make_quota


class RateRules(NamedTuple):
    """What the installation's settings say about the rates of all callers.

    Attributes:
        request_burst_ms: How many milliseconds' worth of requests may be accepted at once.
        token_burst_ms: The same for tokens.
        per_address: Jobs a minute from one client address; 0 for no limit.
    """

    request_burst_ms: int = MINUTE_MS
    token_burst_ms: int = MINUTE_MS
    per_address: int = 0

    @classmethod
    def of(cls, settings: LimitSettings) -> "RateRules":
        """Read the rules from the settings."""
        return cls(
            round(settings.request_burst_seconds * 1000),
            round(settings.token_burst_seconds * 1000),
            settings.requests_per_minute_per_address,
        )

    def rate(self, scope: str, kind: Kind, limit: int) -> RateLimit:
        """Return a rate whose bucket has room for at least one request."""
        if kind == "tokens":
            return RateLimit(scope, kind, limit, self.token_burst_ms)
        return RateLimit(scope, kind, limit, max(self.request_burst_ms, -(-MINUTE_MS // limit)))


class UserBound(NamedTuple):
    """The user of a key, "" for a key without one, and the limits over all keys of the user."""

    id: str = ""
    limits: Limits = NO_LIMITS


DEFAULT_RULES = RateRules()
NO_USER = UserBound()


@lru_cache(maxsize=4096)
def quota_of(
    account: str,
    key_id: str,
    key: Limits,
    whole: Limits,
    rules: RateRules = DEFAULT_RULES,
    address: str = "",
    user: UserBound = NO_USER,
) -> Quota:
    """Return the quota of a caller.

    Caps of a user are counted over all keys of the user, and then those of a key are, too: a job
    is counted under one name.

    Args:
        account: The caller's account.
        key_id: The key, or the user who signed in.
        key: The caller's own limits.
        whole: Limits of the whole account.
        rules: Bursts, and the limit per address.
        address: The client's address; "" if it is unknown or not limited.
        user: The key's user and the limits of that user.
    """
    scopes = [(key_id, _per_minute(key)), (ACCOUNT, _per_minute(whole))]
    group, caps = key_id, key
    if user.limits != NO_LIMITS:
        scopes.append((user.id, _per_minute(user.limits)))
        if user.limits.max_running or user.limits.max_queued:
            group, caps = user.id, tighter(key, user.limits)
    if address:
        scopes.append((f"{ADDRESS}{site_of(address)}", (("requests", rules.per_address),)))
    return make_quota(
        f"{account}/{group}",
        tuple(
            rules.rate(scope, kind, limit)
            for scope, limits in scopes
            for kind, limit in limits
            if limit
        ),
        key_running=caps.max_running,
        key_queued=caps.max_queued,
        account_running=whole.max_running,
        account_queued=whole.max_queued,
    )


def _per_minute(limits: Limits) -> tuple[tuple[Kind, int], ...]:
    return ("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)
