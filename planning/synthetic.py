"""Generates the shipped trace: an hour with a calm start, a peak, bursts and a lull.

`python -m planning.synthetic > planning/traces/synthetic.csv` writes it; the same seed gives the
same bytes. Arrivals are a Poisson process whose rate changes, lengths are log-normal, and one of
four accounts sends half of the requests, so that fair share has an effect.
Invariant: its columns are those of any other trace.
"""

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import exp, log, pi, sin

from planning.trace import COLUMNS, OPTIONAL

SEED = 20261122
SECONDS = 3600.0
MOST_PER_SECOND = 6.0
LULL = (2100.0, 2520.0)
BURSTS = (900.0, 1500.0, 2900.0, 3200.0)
BURST_SECONDS = 45.0
ACCOUNTS = {"acme": 0.5, "birch": 0.25, "cobalt": 0.15, "dune": 0.1}
TIERS = {"default": 0.8, "priority": 0.05, "flex": 0.15}
START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def rate(at: float) -> float:
    """Return requests per second at a moment, at most MOST_PER_SECOND."""
    if LULL[0] <= at < LULL[1]:
        return 0.0
    if any(start <= at < start + BURST_SECONDS for start in BURSTS):
        return MOST_PER_SECOND
    return 0.8 + 0.9 * (1 - sin(pi * at / SECONDS - pi / 2) ** 2)


def lines() -> Iterator[str]:
    """Yield the lines of the file."""
    chance = random.Random(SEED)
    yield ",".join((*COLUMNS, *OPTIONAL))
    at = 0.0
    while True:
        at += chance.expovariate(MOST_PER_SECOND)
        if at >= SECONDS:
            return
        if chance.random() * MOST_PER_SECOND >= rate(at):  # thinning makes the rate what it is
            continue
        stamp = (START + timedelta(seconds=at)).strftime("%Y-%m-%d %H:%M:%S.%f")
        prompt, answer = _length(chance, 700, 1.0, 8_000), _length(chance, 140, 0.9, 1_500)
        yield f"{stamp},{prompt},{answer},{_one_of(chance, ACCOUNTS)},{_one_of(chance, TIERS)}"


def _length(chance: random.Random, median: float, sigma: float, most: int) -> int:
    return max(1, min(most, round(exp(chance.gauss(log(median), sigma)))))


def _one_of(chance: random.Random, shares: dict[str, float]) -> str:
    return chance.choices(list(shares), list(shares.values()))[0]


if __name__ == "__main__":
    sys.stdout.writelines(line + "\n" for line in lines())
