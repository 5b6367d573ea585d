"""`penstock batches`: runs files of requests, and shows their progress and results."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cli.connect.api_client import Client
from cli.connect.batch_progress import (
    BATCH_COLUMNS,
    batch_row,
    batch_status,
    download_file,
    print_batch,
    upload_file,
    wait_for_batch,
)
from cli.terminal.failures import Failure
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import err, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Run files of requests. Exit code 1: the server refused, or an awaited batch failed.",
)

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id.")]
Waiting = Annotated[bool, typer.Option("--wait", help="Wait until the batch has ended.")]


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A file with one JSON request per line.")],
    endpoint: Annotated[
        str, typer.Option(help="The endpoint of every request.")
    ] = "/v1/chat/completions",
    window: Annotated[str, typer.Option(help="Requests that are not done by then expire.")] = "24h",
    wait: Waiting = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Upload a file of requests and run them. Prints the batch's id, unless --wait is given."""
    asked = {"endpoint": endpoint, "completion_window": window}
    with closing(Client.open(url, key)) as client:
        asked["input_file_id"] = upload_file(client, file)["id"]
        batch = client.post("/v1/batches", asked)
        if wait:
            batch = wait_for_batch(client, batch)
    if wait:
        print_batch(batch, as_json=as_json, must_complete=True)
    elif as_json:
        print_json(batch)
    else:
        typer.echo(batch["id"])
        err.print(f"follow it: penstock batches show --wait {batch['id']}", style="dim")


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(help="The most batches to list.", min=1, max=100)] = 20,
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
    print_table(BATCH_COLUMNS, map(batch_row, page["data"]), nothing=nothing)


@app.command()
def show(
    batch_id: BatchId,
    wait: Waiting = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a batch and the errors in its file."""
    with closing(Client.open(url, key)) as client:
        batch = client.get(f"/v1/batches/{batch_id}")
        if wait:
            batch = wait_for_batch(client, batch)
    print_batch(batch, as_json=as_json, must_complete=wait)


@app.command()
def cancel(batch_id: BatchId, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Cancel a batch; results that are complete are kept."""
    with closing(Client.open(url, key)) as client:
        batch = client.post(f"/v1/batches/{batch_id}/cancel")
    print_batch(batch, as_json=as_json, must_complete=False)


@app.command()
def results(
    batch_id: BatchId,
    errors: Annotated[
        bool, typer.Option("--errors", help="Print the failed requests instead.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write to this file; default: stdout.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print a batch's results, one JSON object per line."""
    with closing(Client.open(url, key)) as client:
        batch = client.get(f"/v1/batches/{batch_id}")
        file_id = batch["error_file_id" if errors else "output_file_id"]
        if file_id is None:
            kind = "errors" if errors else "results"
            raise Failure(f"the batch has no {kind}", f"it is {batch_status(batch)}")
        download_file(client, file_id, output)
