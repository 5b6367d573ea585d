"""`penstock jobs`: submit, watch, list, cancel and retry jobs over the API."""

import sys
from typing import Annotated, Any

import typer

from cli.commands.models import first_model
from cli.connect.api_client import Client
from cli.connect.job_progress import (
    JOB_COLUMNS,
    job_row,
    outcome,
    place,
    print_job,
    stream_text,
    wait_with_bar,
)
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import err, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Submit and follow jobs. Exit code 1: the server refused, or a watched job failed.",
)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command()
def submit(
    prompt: Annotated[str, typer.Argument(help="What to say to the model; - reads stdin.")],
    model: Annotated[str | None, typer.Option(help="Served name; else the first one.")] = None,
    max_tokens: Annotated[int, typer.Option(help="At most so many tokens.")] = 128,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    tier: Annotated[str | None, typer.Option(help="priority, default or flex.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Same key: same job.")] = None,
    follow: Annotated[bool, typer.Option("--stream", help="Print the text as it comes.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, then print.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit a chat prompt as a job; prints its id unless told to wait or to stream."""
    client = Client.open(url, key)
    text = sys.stdin.read() if prompt == "-" else prompt
    body = {
        "model": model or first_model(client),
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    request: dict[str, Any] = {"url": "/v1/chat/completions", "body": body}
    if tier:
        request["service_tier"] = tier
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
    job = client.post("/v1/jobs", request, headers)
    if follow and not as_json:
        _stream(client, job["id"])
    elif wait or follow:
        _show(wait_with_bar(client, job, err), as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        typer.echo(job["id"])
        err.print(f"[dim]{place(job)}; watch it: penstock jobs stream {job['id']}")


@app.command()
def get(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show one job, and its text if it is done."""
    client = Client.open(url, key)
    job = client.get(f"/v1/jobs/{job_id}")
    _show(wait_with_bar(client, job, err) if wait else job, as_json=as_json, failing=wait)


@app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs in this status.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List your jobs, newest first."""
    page = Client.open(url, key).get("/v1/jobs", status=status, limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(
        JOB_COLUMNS,
        map(job_row, page["data"]),
        nothing='No jobs yet: penstock jobs submit "What is a penstock?"',
    )


@app.command()
def stream(
    job_id: JobId,
    after: Annotated[int, typer.Option(help="Only what follows this sequence number.")] = 0,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print a job's text as it comes, from its start; --json prints every event."""
    client = Client.open(url, key)
    if not as_json:
        _stream(client, job_id, after)
        return
    for event in client.stream(f"/v1/jobs/{job_id}/stream", after):
        print_json({"type": event.type, **event.data})
        sys.stdout.flush()


@app.command()
def cancel(job_id: JobId, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Cancel a waiting or running job; a finished one stays as it is."""
    _show(Client.open(url, key).post(f"/v1/jobs/{job_id}/cancel"), as_json=as_json, failing=False)


@app.command()
def retry(job_id: JobId, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Submit a failed job again, as a new job."""
    _show(Client.open(url, key).post(f"/v1/jobs/{job_id}/retry"), as_json=as_json, failing=False)


def _show(job: dict[str, Any], *, as_json: bool, failing: bool = True) -> None:
    """Print a job; exit 1 if it was waited for and is not completed."""
    if as_json:
        print_json(job)
    else:
        print_job(job)
    if failing and job["status"] != "completed":
        raise typer.Exit(1)


def _stream(client: Any, job_id: str, after: int = 0) -> None:
    """Print a job's text, then what became of it; exit 1 if it did not complete."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    status = stream_text(client, job_id, after, write, err.print)
    write("\n")
    err.print(f"{job_id}: {outcome(client.get(f'/v1/jobs/{job_id}'))}", soft_wrap=True)
    if status != "completed":
        raise typer.Exit(1)
