"""`penstock simulate`: replays recorded traffic to compare scaling policies by cost and waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.connect.settings import load_settings
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, number
from cli.terminal.output import err, out, print_json
from cli.terminal.study_table import print_study
from core.settings.tree import Settings
from planning.errors import PlanningError
from planning.oracle import Planner
from planning.outcome import Objective
from planning.plots import NoPlots, check_target, draw
from planning.policy import NAMED, Policy, find_policy
from planning.profile import EngineProfile, read_profile, simulated_profile
from planning.study import Progress as StudyProgress
from planning.study import run_study
from planning.trace import read_trace, scaled

app = typer.Typer(add_completion=False)

PLANNING = Path(__file__).resolve().parents[2] / "planning"
REFERENCE = PLANNING / "engines" / "reference.json"
SYNTHETIC = PLANNING / "traces" / "synthetic.csv"


@app.command()
def simulate(
    trace: Annotated[
        Path, typer.Option(help="CSV: TIMESTAMP,ContextTokens,GeneratedTokens[,Account][,Tier].")
    ] = SYNTHETIC,
    engine: Annotated[
        str, typer.Option(help="A file of `penstock calibrate`, or: reference, simulated.")
    ] = "reference",
    policy: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(NAMED)}, fixed:N or a .json file; may be repeated."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare every named policy.")] = False,
    recommend: Annotated[
        bool, typer.Option("--recommend", help="Search for the best target, minimum and cool-down.")
    ] = False,
    scale: Annotated[float, typer.Option(help="Multiply the requests by this factor.")] = 1.0,
    max_workers: Annotated[int | None, typer.Option(min=1, help="The most workers.")] = None,
    slo_seconds: Annotated[
        float | None, typer.Option(min=0, help="Default: as in the settings.")
    ] = None,
    slo_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Default: as in the settings.")
    ] = None,
    gpu_hour_cost: Annotated[str | None, typer.Option(help="Default: as in the settings.")] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the times at which KEDA and the HPA poll.")
    ] = 1,
    plot: Annotated[
        list[Path] | None, typer.Option(help="Draw to a .svg or .png file; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay a trace against scaling policies; compare waiting, GPU hours and cost."""
    with _planning_errors():
        for path in plot or ():
            check_target(path)
        settings = load_settings()
        policies = _policies(policy or [], compare, max_workers)
        planner = Planner(
            scaled(read_trace(trace), scale, seed),
            _profile(engine, settings),
            _objective(settings, slo_seconds, slo_share, gpu_hour_cost),
            settings.queue,
        )
        with _progress_bar() as report:
            study = run_study(planner, policies, seed, recommending=recommend, progress=report)
        for path in plot or ():
            draw(study, f"{trace.name} x {scale:g} on {planner.profile.name}", path)
    if as_json:
        print_json(study.as_dict())
        return
    print_study(study, out)
    for path in plot or ():
        err.print(f"drawn: {path}", soft_wrap=True)


def _policies(names: list[str], compare: bool, max_workers: int | None) -> list[Policy]:
    wanted = [*names, *(NAMED if compare else ())] or ["shipped"]
    found = [find_policy(name) for name in dict.fromkeys(wanted)]
    if max_workers is None:
        return found
    return [one if one.kind == "fixed" else one.with_(max_replicas=max_workers) for one in found]


def _profile(engine: str, settings: Settings) -> EngineProfile:
    if engine == "simulated":
        return simulated_profile(settings.engine)
    return read_profile(REFERENCE if engine == "reference" else Path(engine))


def _objective(
    settings: Settings, seconds: float | None, share: float | None, cost: str | None
) -> Objective:
    planning = settings.planning
    hour = planning.gpu_hour_cost if cost is None else number("--gpu-hour-cost", cost)
    if not hour.is_finite() or hour < Decimal(0):
        raise UsageError("--gpu-hour-cost: expected a number of at least 0")
    if seconds == 0 or share == 0:
        raise UsageError("the SLO's seconds and share must be above 0: --slo-seconds, --slo-share")
    return Objective(
        planning.slo_seconds if seconds is None else seconds,
        planning.slo_share if share is None else share,
        hour,
        planning.slo_on,
    )


@contextmanager
def _planning_errors() -> Iterator[None]:
    try:
        yield
    except NoPlots as error:
        raise UsageError(
            str(error), "pip install 'matplotlib>=3.10' 'numpy>=2', or leave out --plot"
        ) from error
    except PlanningError as error:
        raise UsageError(str(error)) from error


@contextmanager
def _progress_bar() -> Iterator[StudyProgress]:
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, every: bar.update(
            task, description=what, completed=done, total=every
        )
