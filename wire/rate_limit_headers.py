"""Headers with a caller's rate limits, for accepted submissions and for rejections.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: one policy per
limit, with the burst as `q` and the seconds in which it drains as `w`; `r` is the remaining amount,
`t` the seconds until the full amount is available again. `x-ratelimit-*` are OpenAI's; if more than
one of key, account and address is limited, they show the tightest limit.
Retry-After is not among them: `jobs/store/scripts/submit.lua` computes the wait of a rate limit,
and `jobs/store/rejections.py` lists where those of other refusals come from.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from jobs.store.rate_limits import Kind, RateLimit, RateLimitStatus

Headers = dict[str, str]


def rate_limit_headers(statuses: Sequence[RateLimitStatus]) -> Headers:
    """Build the rate limit headers.

    Args:
        statuses: State of every limit that applies to the caller.

    Returns:
        The headers; empty without limits.
    """
    if not statuses:
        return {}
    headers = {
        "RateLimit-Policy": _policy(tuple(status.rate for status in statuses)),
        "RateLimit": ", ".join(map(_remaining, statuses)),
    }
    kinds: tuple[Kind, Kind] = ("requests", "tokens")
    for kind in kinds:
        headers |= _openai(kind, [status for status in statuses if status.rate.kind == kind])
    return headers


@lru_cache(maxsize=1024)
def _policy(rates: Iterable[RateLimit]) -> str:
    return ", ".join(
        f'"{_name(rate)}";q={rate.burst};w={-(-rate.burst_ms // 1000)}' for rate in rates
    )


def _name(rate: RateLimit) -> str:
    return f"{rate.owner}-{rate.kind}"


def _remaining(status: RateLimitStatus) -> str:
    seconds = -(-status.reset_ms // 1000)
    return f'"{_name(status.rate)}";r={status.remaining};t={seconds}'


def _openai(kind: Kind, statuses: Sequence[RateLimitStatus]) -> Headers:
    if not statuses:
        return {}
    tightest = min(statuses, key=lambda status: status.remaining)
    return {
        f"x-ratelimit-limit-{kind}": str(tightest.rate.limit),
        f"x-ratelimit-remaining-{kind}": str(tightest.remaining),
        f"x-ratelimit-reset-{kind}": duration(tightest.reset_ms),
    }


def duration(milliseconds: int) -> str:
    """Format milliseconds as OpenAI does: 120ms, 6s, 1m30.5s."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds
