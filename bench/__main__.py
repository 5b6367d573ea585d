"""`python -m bench [NAME ...] [--json]`: measure; the last line is one JSON object per name."""

import argparse
import asyncio
import importlib
import json
import sys

from bench.figures import Figure

NAMES = (
    *("submit", "backlog", "idle", "ttft", "stream", "batching"),
    *("outbox", "close", "export", "simulate", "batch", "redis_loss", "tracing", "door"),
)


def show(figure: Figure) -> None:
    """Print one figure for a person."""
    sign = "ok" if figure.reached else "MISSED"
    bound = ">=" if figure.higher else "<="
    print(
        f"{figure.name:<10}{figure.figure:>10g} {figure.unit:<12} "
        f"must {bound} {figure.must:g}, aim {figure.aim:g}   {sign}"
    )
    print(f"          against {figure.compared_with}")
    for name, value in figure.details.items():
        print(f"          {name}: {value}")


def main() -> int:
    """Measure what was asked for; 1 when a figure misses its target."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="end with one JSON object per figure")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    missed = 0
    for name in options.names or NAMES:
        figure: Figure = asyncio.run(importlib.import_module(f"bench.{name}").measure())
        show(figure)
        if options.json:
            print(json.dumps(figure.as_dict()))
        missed += not figure.reached
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
