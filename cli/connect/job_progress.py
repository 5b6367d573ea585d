"""Shows a job on the terminal: its text while it is generated, its progress and its outcome."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.connect.api_client import Client
from cli.terminal.output import ago, err, out, print_json
from cli.terminal.plain_console import styled, visible
from jobs.eta import NoEta
from jobs.events import EventType

#: Notes shown instead of an estimated time; others need no action.
NO_ETA: dict[str, str] = {
    NoEta.QUEUE_PAUSED: "the queue is paused",
    NoEta.NO_WORKER: "no worker is ready",
}

#: The exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 130
POLL_SECONDS = 2.0  # one long poll; it returns early when the job ends
TERMINAL = ("completed", "failed", "cancelled", "expired")
#: The colours of the final statuses of jobs and batches.
COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "expired": "yellow"}


def stream_text(
    client: Client,
    job_id: str,
    after: int,
    write: Callable[[str], None],
    say: Callable[[str], None],
) -> str:
    """Write a job's text while it is generated; return its final status.

    Args:
        client: The server.
        job_id: The job.
        after: The sequence number to continue after.
        write: Called with each piece of text.
        say: Called with a message when the text so far is void.
    """
    choice = 0
    for event in client.stream(f"/v1/jobs/{job_id}/stream", after):
        if event.type == EventType.DELTA:
            if event.data["index"] != choice:
                choice = event.data["index"]
                write("\n")
            write(event.data["text"])
        elif event.type == EventType.RESTARTED:
            say("\nthe job has restarted: ignore the text above")
        elif event.type == EventType.FINISHED:
            return str(event.data["status"])
    raise AssertionError("a stream yields `finished` or raises")


def wait_with_bar(client: Client, job: dict[str, Any], console: Console) -> dict[str, Any]:
    """Wait until a job has ended, with a progress bar over its estimated time; return it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with goes_on(job["id"]), Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(place(job), total=None)
        while job["status"] not in TERMINAL:
            job = client.get(f"/v1/jobs/{job['id']}", wait=POLL_SECONDS)
            elapsed = bar.tasks[0].elapsed or 0.0
            left = (job.get("eta") or {}).get("seconds")
            total = None if left is None else elapsed + left
            bar.update(task, description=place(job), completed=elapsed, total=total)
    return job


def place(job: dict[str, Any]) -> str:
    """Return a job's status, queue position and estimated time as text."""
    words = [str(job["status"]).replace("_", " ")]
    if job.get("queue_position"):
        words.append(f"position {job['queue_position']}")
    eta = job.get("eta")
    if eta and job["status"] not in TERMINAL:
        band = f"{eta['low']:.1f} to {eta['high']:.1f}"
        words.append(f"done in about {eta['seconds']:.1f} s ({band})")
    elif (note := NO_ETA.get(str(job.get("eta_note")))) and job["status"] not in TERMINAL:
        words.append(note)
    return ", ".join(words)


def outcome(job: dict[str, Any]) -> Text:
    """Return a job's status, usage, times and cost in one line."""
    usage = job.get("usage") or {}
    parts = [""]
    if usage:
        cached = usage.get("cached_input_tokens")
        note = f" ({cached} of them cached)" if cached else ""
        parts.append(f"{usage['input_tokens']} tokens in{note}, {usage['output_tokens']} out")
    if job.get("queue_seconds") is not None:
        parts.append(f"waited {job['queue_seconds']:.2f} s")
    if job.get("run_seconds") is not None:
        parts.append(f"ran {job['run_seconds']:.2f} s")
    if job.get("attempt"):
        parts.append(f"attempt {job['attempt']}")
    if cost := job.get("cost"):
        parts.append(f"cost {cost['currency']} {cost['total']}")
    elif job.get("cost_note"):
        parts.append(f"no cost: {job['cost_note']}")
    return styled((place(job), COLOURS.get(job["status"], "cyan")), " · ".join(parts))


def text_of(job: dict[str, Any]) -> str:
    """Return the text of all choices of a completed job."""
    choices = (job.get("result") or {}).get("choices") or []
    texts = [
        choice.get("text") or (choice.get("message") or {}).get("content") for choice in choices
    ]
    return "\n".join(text for text in texts if text)


def print_job(job: dict[str, Any]) -> None:
    """Print a job's text to stdout and its outcome to stderr."""
    if text := text_of(job):
        out.print(text, soft_wrap=True)
    err.print(styled(f"{job['id']}: ", outcome(job)), soft_wrap=True)
    if error := job.get("error"):
        err.print(f"  {error.get('title')}: {error.get('detail')}", soft_wrap=True)
    if job.get("retry_of"):
        err.print(f"  retry of {job['retry_of']}")


def show_job(job: dict[str, Any], *, as_json: bool, must_complete: bool) -> None:
    """Print a job, and exit with 1 if it must be completed and is not."""
    if as_json:
        print_json(job)
    else:
        print_job(job)
    if must_complete and job["status"] != "completed":
        raise typer.Exit(1)


@contextmanager
def goes_on(
    work_id: str, follow: str = "jobs stream", cancel: str = "jobs cancel"
) -> Iterator[None]:
    """Say at Ctrl-C that a job or batch goes on, and how to end it; exit with 130.

    Args:
        work_id: The id of the job or batch.
        follow: The command that follows it.
        cancel: The command that ends it.
    """
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"\n{work_id} goes on.", soft_wrap=True)
        err.print(f"  follow it: penstock {follow} {work_id}", soft_wrap=True)
        err.print(f"  cancel it: penstock {cancel} {work_id}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


def stream_job(client: Client, job_id: str, after: int = 0) -> None:
    """Print a job's text while it is generated, then its outcome; exit with 1 if it failed."""

    def write(text: str) -> None:
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    with goes_on(job_id):
        status = stream_text(client, job_id, after, write, err.print)
    write("\n")
    ended = outcome(client.get(f"/v1/jobs/{job_id}"))
    err.print(styled(f"{job_id}: ", ended), soft_wrap=True)
    if status != "completed":
        raise typer.Exit(1)


JOB_COLUMNS = ("job", "status", "model", "created", "waited", "ran", "tokens", "attempt")


def job_row(job: dict[str, Any]) -> list[str | Text]:
    """Return a job as a row under `JOB_COLUMNS`."""
    usage = job.get("usage") or {}
    colour = COLOURS.get(job["status"], "cyan")
    return [
        job["id"],
        styled((place(job), colour)),
        job["model"],
        f"{ago(job['created_at'])} ago",
        _seconds(job.get("queue_seconds")),
        _seconds(job.get("run_seconds")),
        f"{usage.get('input_tokens', 0)} + {usage.get('output_tokens', 0)}",
        str(job.get("attempt", "")),
    ]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
