"""Draws a study: arrivals, number of workers, waiting times and cost.

Only this module imports matplotlib; the `plan` extra installs it.
Invariant: the same study gives the same file.
"""

from collections.abc import Sequence
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import Any

from planning.errors import PlanningError
from planning.oracle import INTERVAL_SECONDS
from planning.outcome import Objective, Spread, StudyOutcome
from planning.study import Study, StudyRow

SUFFIXES = (".svg", ".png")
SIZE = (9.0, 9.5)
DPI = 110
#: The palette of Okabe and Ito, which colour-blind people can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LEAST_WAIT = 0.001


class NoPlots(PlanningError):
    """matplotlib is not installed."""


def check_target(path: Path) -> None:
    """Check that a study can be drawn to a file.

    Raises:
        PlanningError: matplotlib is not installed, or the file name's ending is not supported.
    """
    if path.suffix not in SUFFIXES:
        raise PlanningError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    _pyplot()


def draw(study: Study, title: str, path: Path) -> None:
    """Draw a study to a file."""
    plt = _pyplot()
    with plt.rc_context({"svg.hashsalt": "penstock", "font.size": 9, "axes.grid": True}):
        figure, axes = plt.subplots(4, 1, figsize=SIZE, layout="constrained")
        figure.suptitle(title)
        _arrivals(axes[0], study)
        for index, row in enumerate(study.rows):
            colour = COLOURS[index % len(COLOURS)]
            _workers(axes[1], row, colour)
            _waits(axes[2], row.outcome, colour, study.planner.objective)
        axes[1].set_ylabel("workers wanted")
        axes[1].legend(fontsize=7, ncols=3, loc="upper left")
        axes[1].set_ylim(bottom=0, top=1.35 * max(row.outcome.peak for row in study.rows))
        axes[2].set_ylabel(f"{_named(study.planner.objective)}, s")
        axes[2].set_yscale("log")
        for axis in axes[:3]:
            axis.set_xlim(0, max(1.0, study.planner.trace.seconds / 60))
            axis.set_xlabel("minutes")
        _costs(axes[3], study.rows, study.planner.objective)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=DPI, metadata=metadata)
        plt.close(figure)


def per_minute(arrivals: Sequence[float], values: Sequence[float]) -> list[list[float]]:
    """Return the values of the requests that arrived in each minute, without values of -1."""
    found: list[list[float]] = [[] for _ in range(int(arrivals[-1] // INTERVAL_SECONDS) + 1)]
    for at, value in zip(arrivals, values, strict=True):
        if value >= 0:
            found[int(at // INTERVAL_SECONDS)].append(value)
    return found


def _named(objective: Objective) -> str:
    return f"P95 {objective.on.replace('_', ' ')} a minute"


def _arrivals(axis: Any, study: Study) -> None:
    trace = study.planner.trace
    minutes = per_minute(trace.arrivals, trace.arrivals)
    axis.bar(range(len(minutes)), [len(m) for m in minutes], 1.0, align="edge", color="#999999")
    axis.set_ylabel("requests a minute")


def _workers(axis: Any, row: StudyRow, colour: str) -> None:
    times = [at / 60 for at, _ in row.outcome.sizes] + [row.outcome.seconds / 60]
    sizes = [size for _, size in row.outcome.sizes]
    axis.step(times, [*sizes, sizes[-1]], where="post", color=colour, label=row.name, linewidth=1.4)


def _waits(axis: Any, outcome: StudyOutcome, colour: str, objective: Objective) -> None:
    moments = outcome.moments(objective.on)
    arrivals = outcome.trace.arrivals
    delays = [m - a if m >= 0 else -1.0 for a, m in zip(arrivals, moments, strict=True)]
    minutes = per_minute(arrivals, delays)
    axis.plot(
        [index + 0.5 for index in range(len(minutes))],
        [max(LEAST_WAIT, Spread.of(m).p95) if m else nan for m in minutes],  # nan leaves a gap
        color=colour,
        linewidth=1.0,
        marker=".",
        markersize=3,
    )
    axis.axhline(objective.seconds, color="black", linewidth=0.8, linestyle="--")


def _costs(axis: Any, rows: Sequence[StudyRow], objective: Objective) -> None:
    for index, row in enumerate(rows):
        cost = row.outcome.cost_per_million(objective.gpu_hour_cost) or Decimal(0)
        share = row.outcome.within(objective) * 100
        colour = COLOURS[index % len(COLOURS)]
        axis.scatter(float(cost), share, color=colour, label=row.name, s=45, zorder=3)
    axis.axhline(objective.share * 100, color="black", linewidth=0.8, linestyle="--")
    axis.set_xlabel("cost of a million tokens, at the GPU price given")
    axis.set_ylabel(f"% in {objective.seconds:g} s")
    axis.margins(0.12, 0.15)
    axis.set_xlim(left=0)


def _pyplot() -> Any:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an optional extra, asked for only to draw
    except ImportError as error:
        raise NoPlots("plots need matplotlib; install the extra `plan`") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
