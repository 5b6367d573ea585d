"""`penstock calibrate`: measures a worker's latency model for `penstock simulate --engine`."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.models import first_model
from cli.connect.api_client import Client
from cli.connect.calibration_jobs import context_length, idle_slots, measure
from cli.terminal.failures import Failure, UsageError
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import err, print_json, print_table
from planning.calibration import OUTPUT, Fit, Point, design, fit
from planning.errors import CannotFit
from planning.profile import EngineProfile

app = typer.Typer(add_completion=False)


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="The file to write the latency model to.")] = Path(
        "engine.json"
    ),
    model: Annotated[
        str | None, typer.Option(help="The model's served name; default: the first.")
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Rounds of measuring; the fastest round of each point counts."),
    ] = 3,
    tokens: Annotated[int, typer.Option(min=6, help="Output tokens of most jobs.")] = OUTPUT,
    start_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds from a pod's creation to ready; not measured.")
    ] = 60.0,
    kv_tokens: Annotated[int, typer.Option(min=0, help="KV cache in tokens; 0: no limit.")] = 0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of one worker.")] = 1,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run jobs of several sizes and concurrencies on one idle worker, and fit a latency model."""
    with closing(Client.open(url, key)) as client:
        name = model or first_model(client)
        profile = EngineProfile(
            name=name,
            prefill_tokens_per_second=1,
            step_base_seconds=1,
            slots=idle_slots(client, name),
            start_seconds=start_seconds,
            kv_tokens=kv_tokens,
            gpus=gpus,
        )
        points = _design(profile.slots, context_length(client, name), tokens)
        measured = measure(client, name, points, rounds)
    try:
        found = fit(measured, profile)
    except CannotFit as error:
        raise Failure(str(error), "the fit needs numpy: pip install 'numpy>=2'") from error
    out.write_text(found.profile.model_dump_json(indent=2) + "\n")
    _print(found, out, as_json)


def _design(slots: int, context: int, tokens: int) -> list[Point]:
    try:
        return design(slots, context, tokens)
    except CannotFit as error:
        raise UsageError(str(error), "set a smaller --tokens") from error


def _print(found: Fit, out: Path, as_json: bool) -> None:
    errors = {
        "jobs": found.jobs,
        "median_error": round(found.median_error, 4),
        "worst_error": round(found.worst_error, 4),
        "overhead_seconds": round(found.overhead_seconds, 6),
    }
    if as_json:
        print_json({"engine": found.profile.model_dump(), **errors})
        return
    profile = found.profile
    context = profile.step_per_context_token_seconds * 1e6
    errors_text = f"{found.median_error:.1%} median, {found.worst_error:.1%} at most"
    rows: Sequence[tuple[str, str]] = (
        ("prefill", f"{profile.prefill_tokens_per_second:,.0f} tokens/s"),
        ("step", f"{profile.step_base_seconds * 1000:.3f} ms"),
        ("  and per sequence", f"{profile.step_per_sequence_seconds * 1000:.4f} ms"),
        ("  and per 1,000 tokens of context", f"{context:.4f} ms"),
        ("beside the engine", f"{found.overhead_seconds * 1000:.1f} ms a job"),
        ("slots", str(profile.slots)),
        ("error of the fit", f"{errors_text}, {found.jobs} jobs"),
    )
    print_table(("of one worker", "measured"), rows, nothing="")
    err.print(f"written to {out}; next: penstock simulate --engine {out}", soft_wrap=True)
