"""`python -m tests.chaos --seconds 60 --seed 1`: the last line is one JSON object."""

import argparse
import asyncio
import json
import sys

from tests.chaos.load import fresh_seed
from tests.chaos.run import run_chaos


def main() -> int:
    """Run; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults come")
    parser.add_argument("--seed", type=int, default=None, help="replays a run's decisions")
    parser.add_argument("--clients", type=int, default=120, help="how many at a time")
    asked = parser.parse_args()
    seed = fresh_seed() if asked.seed is None else asked.seed
    print(f"seed {seed}: make chaos SECONDS={asked.seconds:g} SEED={seed}", flush=True)  # noqa: T201
    figures = asyncio.run(run_chaos(seed, asked.seconds, clients=asked.clients))
    for problem in figures["problems"]:
        print(problem)  # noqa: T201
    print(json.dumps(figures))  # noqa: T201
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
