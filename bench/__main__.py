"""`python -m bench [NAME ...] [--json]` measures; --json ends with one JSON object per name."""

import argparse
import asyncio
import importlib
import json
import sys
from pathlib import Path
from pkgutil import iter_modules

from bench.figure import Figure

#: Every module in `bench/figures/` is a measurement of that name.
NAMES = [module.name for module in iter_modules([str(Path(__file__).with_name("figures"))])]


def show(figure: Figure) -> None:
    """Print one figure as text."""
    sign = "ok" if figure.reached else "MISSED"
    bound = ">=" if figure.higher else "<="
    print(
        f"{figure.name:<14}{figure.figure:>10g} {figure.unit:<12} "
        f"must {bound} {figure.must:g}, aim {figure.aim:g}   {sign}"
    )
    print(f"              against {figure.compared_with}")
    for name, value in figure.details.items():
        print(f"              {name}: {value}")


def main() -> int:
    """Run the named measurements, or all; return 1 if a figure misses its target."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--json", action="store_true", help="end with one JSON object per figure")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown measurement {', '.join(unknown)}; available: {', '.join(NAMES)}")
    missed = 0
    for name in options.names or NAMES:
        figure: Figure = asyncio.run(importlib.import_module(f"bench.figures.{name}").measure())
        show(figure)
        if options.json:
            print(json.dumps(figure.as_dict()))
        missed += not figure.reached
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
