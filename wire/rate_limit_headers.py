"""What a caller is told about its limits: on every answer to a submission, and when refused.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10: one policy
per limit, `r` what is left, `t` the seconds until all of it is there again. `x-ratelimit-*` are
OpenAI's; where key and account are both limited, the one with less left is shown.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from jobs.store.rate_limits import Kind, RateLimit, RateLimitStatus

WINDOW_SECONDS = 60

Headers = dict[str, str]


def rate_headers(standings: Sequence[RateLimitStatus]) -> Headers:
    """Return the headers for the rates of a key; none for one without."""
    if not standings:
        return {}
    headers = {
        "RateLimit-Policy": _policy(tuple(standing.rate for standing in standings)),
        "RateLimit": ", ".join(map(_left, standings)),
    }
    kinds: tuple[Kind, Kind] = ("requests", "tokens")
    for kind in kinds:
        headers |= _openai(kind, [one for one in standings if one.rate.kind == kind])
    return headers


@lru_cache(maxsize=1024)
def _policy(rates: Iterable[RateLimit]) -> str:
    return ", ".join(f'"{_name(rate)}";q={rate.limit};w={WINDOW_SECONDS}' for rate in rates)


def _name(rate: RateLimit) -> str:
    return f"{rate.whose}-{rate.kind}"


def _left(standing: RateLimitStatus) -> str:
    seconds = -(-standing.reset_ms // 1000)
    return f'"{_name(standing.rate)}";r={standing.remaining};t={seconds}'


def _openai(kind: Kind, standings: Sequence[RateLimitStatus]) -> Headers:
    if not standings:
        return {}
    tightest = min(standings, key=lambda one: one.remaining)
    return {
        f"x-ratelimit-limit-{kind}": str(tightest.rate.limit),
        f"x-ratelimit-remaining-{kind}": str(tightest.remaining),
        f"x-ratelimit-reset-{kind}": duration(tightest.reset_ms),
    }


def duration(milliseconds: int) -> str:
    """Write a time as OpenAI does: 120ms, 6s, 1m30.5s."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds
