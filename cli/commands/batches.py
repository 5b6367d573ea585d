"""`penstock batches`: run a file of requests, watch it, and fetch what came of it."""

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from cli.connect.api_client import Client
from cli.terminal.failures import Failure, UsageError
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, err, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run files of requests. Exit code 1: the server refused, or a watched batch failed.",
)

POLL_SECONDS = 1.0
ENDED = ("completed", "failed", "expired", "cancelled")
COLUMNS = ("batch", "status", "endpoint", "made", "done", "failed", "of")
COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "expired": "yellow"}

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id.")]
Waiting = Annotated[bool, typer.Option("--wait", help="Wait for its end.")]


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="One JSON request per line.")],
    endpoint: Annotated[str, typer.Option(help="What every line asks.")] = "/v1/chat/completions",
    window: Annotated[str, typer.Option(help="Done by then, or expired.")] = "24h",
    wait: Waiting = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Upload a file of requests and run them; prints the batch's id unless told to wait."""
    asked = {"endpoint": endpoint, "completion_window": window}
    with closing(Client.open(url, key)) as client:
        asked["input_file_id"] = _upload(client, file)["id"]
        batch = client.post("/v1/batches", asked)
        if wait:
            batch = _watch(client, batch)
    if wait:
        _show(batch, as_json=as_json, failing=True)
    elif as_json:
        print_json(batch)
    else:
        typer.echo(batch["id"])
        err.print(f"[dim]watch it: penstock batches show --wait {batch['id']}")


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 20,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List your batches, newest first."""
    with closing(Client.open(url, key)) as client:
        page = client.get("/v1/batches", limit=limit)
    if as_json:
        print_json(page)
        return
    nothing = "No batches yet: penstock batches create FILE"
    print_table(COLUMNS, map(_row, page["data"]), nothing=nothing)


@app.command()
def show(
    batch_id: BatchId,
    wait: Waiting = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show one batch, and what is wrong with its file if something is."""
    with closing(Client.open(url, key)) as client:
        batch = client.get(f"/v1/batches/{batch_id}")
        if wait:
            batch = _watch(client, batch)
    _show(batch, as_json=as_json, failing=wait)


@app.command()
def cancel(batch_id: BatchId, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Stop a batch; what is done by then stays."""
    with closing(Client.open(url, key)) as client:
        batch = client.post(f"/v1/batches/{batch_id}/cancel")
    _show(batch, as_json=as_json, failing=False)


@app.command()
def results(
    batch_id: BatchId,
    errors: Annotated[bool, typer.Option("--errors", help="What failed instead.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print a batch's results, one JSON object per line."""
    with closing(Client.open(url, key)) as client:
        batch = client.get(f"/v1/batches/{batch_id}")
        file_id = batch["error_file_id" if errors else "output_file_id"]
        if file_id is None:
            kind = "errors" if errors else "results"
            raise Failure(f"the batch has no {kind}", f"it is {_words(batch)}")
        _fetch(client, file_id, output)


def _upload(client: Client, file: Path) -> dict[str, Any]:
    try:
        with (
            Progress(TextColumn("uploading"), BarColumn(), DownloadColumn(), console=err) as bar,
            bar.open(file, "rb") as opened,
        ):
            return client.upload(file.name, opened)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _fetch(client: Client, file_id: str, output: Path | None) -> None:
    """Write a file aside and rename it, or to stdout."""
    if output is None:
        for piece, _ in client.download(f"/v1/files/{file_id}/content"):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    aside = output.with_name(f"{output.name}.part")
    with (
        Progress(TextColumn("fetching"), BarColumn(), DownloadColumn(), console=err) as bar,
        aside.open("wb") as opened,
    ):
        task = bar.add_task("", total=None)
        for piece, total in client.download(f"/v1/files/{file_id}/content"):
            opened.write(piece)
            bar.update(task, advance=len(piece), total=total or None)
    aside.replace(output)


def _watch(client: Client, batch: dict[str, Any]) -> dict[str, Any]:
    """Wait for a batch's end with a progress bar over its requests; return it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(batch["status"], total=None)
        while batch["status"] not in ENDED:
            time.sleep(POLL_SECONDS)
            batch = client.get(f"/v1/batches/{batch['id']}")
            counts = batch["request_counts"]
            done = counts["completed"] + counts["failed"]
            status = batch["status"].replace("_", " ")
            bar.update(task, description=status, completed=done, total=counts["total"] or None)
    return batch


def _show(batch: dict[str, Any], *, as_json: bool, failing: bool) -> None:
    """Print a batch; exit 1 if it was waited for and is not completed."""
    if as_json:
        print_json(batch)
    else:
        colour = COLOURS.get(batch["status"], "cyan")
        err.print(f"{batch['id']}: [{colour}]{_words(batch)}[/]", soft_wrap=True)
        for error in (batch["errors"] or {}).get("data", ()):
            line = "" if error["line"] is None else f"line {error['line']}: "
            err.print(f"  {line}{error['message']}", markup=False, soft_wrap=True)
    if failing and batch["status"] != "completed":
        raise typer.Exit(1)


def _words(batch: dict[str, Any]) -> str:
    counts = batch["request_counts"]
    done = f"{counts['completed']} of {counts['total']} done, {counts['failed']} failed"
    return f"{batch['status'].replace('_', ' ')}, {done}"


def _row(batch: dict[str, Any]) -> list[str]:
    counts = batch["request_counts"]
    colour = COLOURS.get(batch["status"], "cyan")
    return [
        batch["id"],
        f"[{colour}]{batch['status'].replace('_', ' ')}[/]",
        batch["endpoint"],
        f"{ago(batch['created_at'])} ago",
        *(str(counts[name]) for name in ("completed", "failed", "total")),
    ]
