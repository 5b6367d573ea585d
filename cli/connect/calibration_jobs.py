"""Runs the jobs of a calibration on one worker, over the API."""

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.connect.api_client import Client
from cli.terminal.failures import Failure, UsageError
from cli.terminal.output import err
from planning.calibration import MeasuredJob, Point, fastest_round

#: The range of token ids for prompts: every vocabulary has them, and their meaning is irrelevant.
MIN_TOKEN, MAX_TOKEN = 16, 250
SUBMIT_THREADS = 16
POLL_SECONDS = 60
JOB_SECONDS = 600.0


def idle_slots(client: Client, model: str) -> int:
    """Return the number of slots of the model's only worker.

    Raises:
        Failure: no worker or several serve the model, or the worker is busy.
    """
    workers = client.get("/circuit-breaker/status")["data"]
    serving = [worker for worker in workers if worker.get("queue") == model]
    if len(serving) != 1:
        raise Failure(f"{len(serving)} workers serve {model}; a calibration needs exactly one")
    if serving[0].get("running"):
        raise Failure(f"the worker of {model} is busy; a calibration needs it without other jobs")
    return int(serving[0]["slots"])


def context_length(client: Client, model: str) -> int:
    """Return the model's context length in tokens.

    Raises:
        UsageError: the model is not served.
    """
    served = client.get("/v1/models")["data"]
    found = next((one for one in served if one["id"] == model), None)
    if found is None:
        raise UsageError(f"no model {model} is served")
    return int(found["max_model_len"])


def measure(
    client: Client, model: str, points: Sequence[Point], rounds: int
) -> list[Sequence[MeasuredJob]]:
    """Run every point `rounds` times; return the fastest round of each point.

    Raises:
        Failure: a job did not complete, or was started again.
    """
    _measure_point(client, model, Point(1, MIN_TOKEN, 8))  # warm up
    found: dict[Point, list[list[MeasuredJob]]] = {}
    about = TextColumn("{task.description}", markup=False)
    with Progress(about, BarColumn(), TimeElapsedColumn(), console=err, transient=True) as bar:
        for point in bar.track([*points] * rounds, description=f"measuring {model}"):
            found.setdefault(point, []).append(_measure_point(client, model, point))
    return [fastest_round(found[point]) for point in points]


def _measure_point(client: Client, model: str, point: Point) -> list[MeasuredJob]:
    """Run the jobs of one point at the same time."""
    with ThreadPoolExecutor(min(SUBMIT_THREADS, point.jobs)) as threads:
        jobs = list(threads.map(lambda _: _submit(client, model, point), range(point.jobs)))
    return [_run_of(_wait_for_job(client, job["id"])) for job in jobs]


def _submit(client: Client, model: str, point: Point) -> dict[str, Any]:
    spread = MAX_TOKEN - MIN_TOKEN
    # Random, so that no prefix cache has it.
    prompt = [MIN_TOKEN + byte % spread for byte in secrets.token_bytes(point.prompt)]
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": point.output,
        "temperature": 0,
        "ignore_eos": True,
    }
    return client.post("/v1/jobs", {"url": "/v1/completions", "body": body})


def _wait_for_job(client: Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline:
        job = client.get(f"/v1/jobs/{job_id}", wait=POLL_SECONDS)
        if job["status"] == "completed":
            return job
        if job["status"] not in ("queued", "in_progress"):
            raise Failure(f"{job_id} is {job['status']}, so the measurement is invalid")
    raise Failure(f"{job_id} has not ended after {JOB_SECONDS:.0f} s")


def _run_of(job: dict[str, Any]) -> MeasuredJob:
    if job["attempt"] != 1:
        raise Failure(f"{job['id']} was started again, so the measurement is invalid")
    usage = job["usage"]
    return MeasuredJob(
        job["started_at"],
        job["completed_at"] - job["started_at"],
        usage["input_tokens"] - usage["cached_input_tokens"],
        usage["output_tokens"],
    )
