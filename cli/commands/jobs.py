"""`penstock jobs`: submits, shows, lists, streams, cancels and retries jobs."""

import sys
from typing import Annotated, Any

import typer

from cli.commands.models import first_model
from cli.connect.api_client import Client
from cli.connect.job_progress import (
    JOB_COLUMNS,
    goes_on,
    job_row,
    place,
    show_job,
    stream_job,
    wait_with_bar,
)
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import err, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Submit and follow jobs. Exit code 1: the server refused, or an awaited job failed.",
)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command()
def submit(
    prompt: Annotated[str, typer.Argument(help="The user message; - reads it from stdin.")],
    model: Annotated[
        str | None, typer.Option(help="The model's served name; default: the first.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="The most tokens to generate.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 always picks the most likely token.")] = 0.0,
    tier: Annotated[str | None, typer.Option(help="priority, default or flex.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A repeat with the same key returns the same job.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--stream", help="Print the text while it is generated.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the job has ended, then print it.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit a chat prompt as a job. Prints the job's id, unless --wait or --stream is given."""
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
        stream_job(client, job["id"])
    elif wait or follow:
        show_job(wait_with_bar(client, job, err), as_json=as_json, must_complete=True)
    elif as_json:
        print_json(job)
    else:
        typer.echo(job["id"])
        err.print(f"{place(job)}; follow it: penstock jobs stream {job['id']}", style="dim")


@app.command()
def get(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a job, and its text when it is completed."""
    client = Client.open(url, key)
    job = client.get(f"/v1/jobs/{job_id}")
    job = wait_with_bar(client, job, err) if wait else job
    show_job(job, as_json=as_json, must_complete=wait)


@app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(help="The most jobs to list.", min=1)] = 20,
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
    after: Annotated[int, typer.Option(help="Start after this sequence number.")] = 0,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print a job's text from its start, while it is generated; --json prints every event."""
    client = Client.open(url, key)
    if not as_json:
        stream_job(client, job_id, after)
        return
    with goes_on(job_id):
        for event in client.stream(f"/v1/jobs/{job_id}/stream", after):
            print_json({"type": event.type, **event.data})
            sys.stdout.flush()


@app.command()
def cancel(job_id: JobId, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Cancel a queued or running job; a job that has ended does not change."""
    job = Client.open(url, key).post(f"/v1/jobs/{job_id}/cancel")
    show_job(job, as_json=as_json, must_complete=False)


@app.command()
def retry(job_id: JobId, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Submit a failed job again as a new job."""
    job = Client.open(url, key).post(f"/v1/jobs/{job_id}/retry")
    show_job(job, as_json=as_json, must_complete=False)
