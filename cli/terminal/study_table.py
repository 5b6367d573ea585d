"""Prints a study: a table of fleets, and sparklines of queue and workers."""

from collections.abc import Sequence
from math import ceil

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.terminal.plain_console import PlainConsole, styled
from planning.outcome import CENT, HOUR, Spread
from planning.study import Study, StudyRow

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 60
COLUMNS = (
    *("fleet", "wait P50", "P95", "P99", "first token P95", "within SLO"),
    *("GPU h", "cost", "per 1M tokens", "busy", "most workers"),
)


def print_study(study: Study, console: Console) -> None:
    """Print the table, the sparklines and the recommendation."""
    planner, objective = study.planner, study.planner.objective
    trace = planner.trace
    console.print(
        f"{len(trace):,} requests in {trace.seconds / HOUR:.2f} h, {trace.tokens:,} tokens; "
        f"engine: {planner.profile.name}, {planner.profile.slots} slots",
        soft_wrap=True,
    )
    console.print(
        f"SLO: {objective.share:.1%} {objective.on.replace('_', ' ')} within "
        f"{objective.seconds:g} s; a GPU hour costs {objective.gpu_hour_cost}",
        soft_wrap=True,
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "fleet" else "right", no_wrap=True)
    for row in study.rows:
        table.add_row(*_cells(row, study))
    wide = PlainConsole(file=console.file, width=400)
    wide.print(table)
    for row in study.rows:
        wide.print(f"{row.name}", style="bold")
        wide.print(f"  workers {sparkline([s.serving for s in row.outcome.samples])}")
        wide.print(f"  waiting {sparkline([s.queued for s in row.outcome.samples])}")
    if study.fleet is None:
        most = max(row.outcome.peak for row in study.rows)
        console.print(f"No fixed fleet meets the SLO within the bound of {most} workers.")
    if study.tried:
        _print_recommendation(study, console)


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return a line of bars, one for the maximum of each interval, and the maximum of all."""
    if not values:
        return ""
    count, width = len(values), min(width, len(values))
    tops = [max(values[count * i // width : count * (i + 1) // width]) for i in range(width)]
    most = max(tops)
    bars = (BARS[ceil(top * (len(BARS) - 1) / most) if most else 0] for top in tops)
    return "".join(bars) + f"  most {most:g}"


def _cells(row: StudyRow, study: Study) -> tuple[str | Text, ...]:
    objective, outcome = study.planner.objective, row.outcome
    waits, firsts = Spread.of(outcome.waits()), Spread.of(outcome.first_tokens())
    per_million = outcome.cost_per_million(objective.gpu_hour_cost)
    share = outcome.within(objective)
    colour = "green" if outcome.meets(objective) else "red"
    busy = outcome.busy_seconds / outcome.paid_seconds if outcome.paid_seconds else 0.0
    return (
        row.name,
        *(_seconds(value) for value in (waits.p50, waits.p95, waits.p99, firsts.p95)),
        styled((f"{share:.2%}", colour)),
        f"{outcome.gpu_hours:,.1f}",
        f"{outcome.cost(objective.gpu_hour_cost).quantize(CENT):,}",
        "-" if per_million is None else f"{per_million.quantize(CENT):,}",
        f"{busy:.0%}",
        str(outcome.peak),
    )


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _print_recommendation(study: Study, console: Console) -> None:
    best = study.tried[0]
    policy, slots = best.policy, study.planner.profile.slots
    met = best.outcome.meets(study.planner.objective)
    reason = "fewest GPU hours of those that meet the SLO" if met else "none meets the SLO; closest"
    rest = f" of {len(study.tried)} tried ({reason}):"
    console.print(styled(("Recommended", "bold"), rest), soft_wrap=True)
    console.print(f"  target (queued + running a worker): {policy.target * slots:.0f}")
    console.print(f"  minReplicaCount: {policy.min_replicas}")
    console.print(f"  cooldownPeriod: {policy.cooldown_seconds:.0f}")
