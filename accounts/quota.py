"""Turns the limits of a caller into the quota that the job store checks."""

from functools import lru_cache

from accounts.caller import Limits
from jobs.store.budget_reservations import ACCOUNT
from jobs.store.rate_limits import Kind, Quota, RateLimit, make_quota


@lru_cache(maxsize=4096)
def quota_of(account: str, key_id: str, key: Limits, whole: Limits) -> Quota:
    """Return the quota of a caller.

    Args:
        account: The caller's account.
        key_id: The key, or the user who signed in.
        key: The caller's own limits.
        whole: Limits of the whole account.
    """
    return make_quota(
        f"{account}/{key_id}",
        tuple(
            RateLimit(scope, kind, limit)
            for scope, limits in ((key_id, key), (ACCOUNT, whole))
            for kind, limit in _per_minute(limits)
            if limit
        ),
        key_running=key.max_running,
        key_queued=key.max_queued,
        account_running=whole.max_running,
        account_queued=whole.max_queued,
    )


def _per_minute(limits: Limits) -> tuple[tuple[Kind, int], ...]:
    return ("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)
