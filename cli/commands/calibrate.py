"""`penstock calibrate`: the latency model of a running worker, for `penstock simulate --engine`."""

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from cli.commands.models import first_model
from cli.connect.api_client import Client
from cli.terminal.failures import Failure, UsageError
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import err, print_json, print_table
from planning.calibration import OUTPUT, Fit, MeasuredJob, Point, design, fastest_round, fit
from planning.errors import CannotFit
from planning.profile import EngineProfile

app = typer.Typer(add_completion=False)

#: Token ids that every vocabulary has; what they mean does not matter.
LEAST_TOKEN, MOST_TOKEN = 16, 250
CLIENTS = 16
WAIT_SECONDS = 60
GIVE_UP_SECONDS = 600.0


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="Where the latency model goes.")] = Path("engine.json"),
    model: Annotated[str | None, typer.Option(help="Served name; else the first one.")] = None,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Measurements per point; the fastest one counts."),
    ] = 3,
    tokens: Annotated[int, typer.Option(min=6, help="Tokens that most jobs make.")] = OUTPUT,
    start_seconds: Annotated[
        float, typer.Option(min=0, help="From a pod's creation to ready; it cannot be seen here.")
    ] = 60.0,
    kv_tokens: Annotated[int, typer.Option(min=0, help="KV cache in tokens; 0: no limit.")] = 0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of one worker.")] = 1,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run jobs of several sizes and concurrencies on one idle worker and fit its latency model."""
    with closing(Client.open(url, key)) as client:
        name = model or first_model(client)
        profile = EngineProfile(
            name=name,
            prefill_tokens_per_second=1,
            step_base_seconds=1,
            slots=_slots(client, name),
            start_seconds=start_seconds,
            kv_tokens=kv_tokens,
            gpus=gpus,
        )
        points = _design(profile.slots, _context(client, name), tokens)
        measured = _run(client, name, points, rounds)
    try:
        found = fit(measured, profile)
    except CannotFit as error:
        raise Failure(str(error), "pip install 'penstock[plan]' brings what a fit needs") from error
    out.write_text(found.profile.model_dump_json(indent=2) + "\n")
    _show(found, out, as_json)


def _design(slots: int, context: int, tokens: int) -> list[Point]:
    try:
        return design(slots, context, tokens)
    except CannotFit as error:
        raise UsageError(str(error), "choose fewer: --tokens") from error


def _slots(client: Client, model: str) -> int:
    """Return the slots of the one idle worker.

    Raises:
        Failure: there is none, it is busy, or there are several.
    """
    workers = client.get("/circuit-breaker/status")["data"]
    serving = [worker for worker in workers if worker.get("queue") == model]
    if len(serving) != 1:
        raise Failure(
            f"{len(serving)} workers serve {model}; calibrating needs exactly one, to itself"
        )
    if serving[0].get("running"):
        raise Failure(f"the worker of {model} is busy; calibrating needs it to itself")
    return int(serving[0]["slots"])


def _context(client: Client, model: str) -> int:
    served = client.get("/v1/models")["data"]
    found = next((one for one in served if one["id"] == model), None)
    if found is None:
        raise UsageError(f"no model {model} is served")
    return int(found["max_model_len"])


def _run(
    client: Client, model: str, points: Sequence[Point], rounds: int
) -> list[Sequence[MeasuredJob]]:
    _measure(client, model, Point(1, LEAST_TOKEN, 8))  # what is done once only is done now
    found: dict[Point, list[list[MeasuredJob]]] = {}
    with Progress(console=err, transient=True) as bar:
        for point in bar.track([*points] * rounds, description=f"measuring {model}"):
            found.setdefault(point, []).append(_measure(client, model, point))
    return [fastest_round(found[point]) for point in points]


def _measure(client: Client, model: str, point: Point) -> list[MeasuredJob]:
    """Run the jobs of one point at the same time."""
    with ThreadPoolExecutor(min(CLIENTS, point.jobs)) as clients:
        jobs = list(clients.map(lambda _: _submit(client, model, point), range(point.jobs)))
    return [_ran(_ended(client, job["id"])) for job in jobs]


def _submit(client: Client, model: str, point: Point) -> dict[str, Any]:
    spread = MOST_TOKEN - LEAST_TOKEN
    # At random, so that no prefix cache has seen it.
    prompt = [LEAST_TOKEN + byte % spread for byte in secrets.token_bytes(point.prompt)]
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": point.output,
        "temperature": 0,
        "ignore_eos": True,
    }
    return client.post("/v1/jobs", {"url": "/v1/completions", "body": body})


def _ended(client: Client, job_id: str) -> dict[str, Any]:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < give_up:
        job = client.get(f"/v1/jobs/{job_id}", wait=WAIT_SECONDS)
        if job["status"] == "completed":
            return job
        if job["status"] not in ("queued", "in_progress"):
            raise Failure(f"{job_id} is {job['status']}, so nothing was measured")
    raise Failure(f"{job_id} has not ended after {GIVE_UP_SECONDS:.0f} s")


def _ran(job: dict[str, Any]) -> MeasuredJob:
    if job["attempt"] != 1:
        raise Failure(f"{job['id']} was started again, so nothing was measured")
    usage = job["usage"]
    return MeasuredJob(
        job["started_at"],
        job["completed_at"] - job["started_at"],
        usage["input_tokens"] - usage["cached_input_tokens"],
        usage["output_tokens"],
    )


def _show(found: Fit, out: Path, as_json: bool) -> None:
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
    err.print(f"written: {out}; now penstock simulate --engine {out}", soft_wrap=True)
