"""Uploads the files of batches, shows their progress, and downloads their results."""

import sys
import time
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.text import Text

from cli.connect.api_client import Client
from cli.connect.job_progress import COLOURS, TERMINAL, goes_on
from cli.terminal.failures import UsageError
from cli.terminal.output import ago, err, print_json
from cli.terminal.plain_console import styled

POLL_SECONDS = 1.0
BATCH_COLUMNS = ("batch", "status", "endpoint", "created", "done", "failed", "of")


def upload_file(client: Client, file: Path) -> dict[str, Any]:
    """Upload a file of requests with a progress bar; return the file object.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with (
            Progress(TextColumn("uploading"), BarColumn(), DownloadColumn(), console=err) as bar,
            bar.open(file, "rb") as opened,
        ):
            return client.upload(file.name, opened)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def download_file(client: Client, file_id: str, output: Path | None) -> None:
    """Download a file to `output`, or to stdout; `output` appears only when it is complete."""
    if output is None:
        for piece, _ in client.download(f"/v1/files/{file_id}/content"):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.part")
    with (
        Progress(TextColumn("downloading"), BarColumn(), DownloadColumn(), console=err) as bar,
        partial.open("wb") as opened,
    ):
        task = bar.add_task("", total=None)
        for piece, total in client.download(f"/v1/files/{file_id}/content"):
            opened.write(piece)
            bar.update(task, advance=len(piece), total=total or None)
    partial.replace(output)


def wait_for_batch(client: Client, batch: dict[str, Any]) -> dict[str, Any]:
    """Wait until a batch has ended, with a progress bar over its requests; return it."""
    about = TextColumn("{task.description}", markup=False)
    columns = (about, BarColumn(), MofNCompleteColumn(), Elapsed())
    going_on = goes_on(batch["id"], "batches get --wait", "batches cancel")
    with going_on, Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(batch["status"], total=None)
        while batch["status"] not in TERMINAL:
            time.sleep(POLL_SECONDS)
            batch = client.get(f"/v1/batches/{batch['id']}")
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            status = batch["status"].replace("_", " ")
            bar.update(task, description=status, completed=done, total=counts["total"] or None)
    return batch


def print_batch(batch: dict[str, Any], *, as_json: bool, must_complete: bool) -> None:
    """Print a batch, and exit with 1 if it must be completed and is not."""
    if as_json:
        print_json(batch)
    else:
        colour = COLOURS.get(batch["status"], "cyan")
        err.print(styled(f"{batch['id']}: ", (batch_status(batch), colour)), soft_wrap=True)
        for error in (batch["errors"] or {}).get("data", ()):
            line = "" if error["line"] is None else f"line {error['line']}: "
            err.print(f"  {line}{error['message']}", soft_wrap=True)
    if must_complete and batch["status"] != "completed":
        raise typer.Exit(1)


def batch_status(batch: dict[str, Any]) -> str:
    """Return a batch's status and counts as text."""
    counts = batch["request_counts"]
    done = f"{counts['completed']} of {counts['total']} done, {counts['failed']} failed"
    return f"{batch['status'].replace('_', ' ')}, {done}"


def batch_row(batch: dict[str, Any]) -> list[str | Text]:
    """Return a batch as a row under `BATCH_COLUMNS`."""
    counts = batch["request_counts"]
    colour = COLOURS.get(batch["status"], "cyan")
    return [
        batch["id"],
        styled((batch["status"].replace("_", " "), colour)),
        batch["endpoint"],
        f"{ago(batch['created_at'])} ago",
        *(str(counts[name]) for name in ("completed", "failed", "total")),
    ]
