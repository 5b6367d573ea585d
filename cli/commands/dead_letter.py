"""`penstock dead`: lists jobs that failed too often, and runs them again."""

from typing import Annotated

import typer

from cli.connect.api_client import Client
from cli.connect.job_progress import print_job
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List the dead-letter jobs and run them again.",
)


@app.command("list")
def list_dead_letter(
    limit: Annotated[int, typer.Option(help="The most jobs to list.", min=1, max=100)] = 20,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List dead-letter jobs, newest first. An operator's key lists those of all accounts."""
    page = Client.open(url, key).get("/v1/dead-letter", limit=limit)
    if as_json:
        print_json(page)
        return
    print_table(
        ("job", "account", "model", "failed", "attempts", "why"),
        (
            (
                job["id"],
                job.get("account", ""),
                job["model"],
                f"{ago(job['completed_at'])} ago",
                str(job["attempt"]),
                str((job.get("error") or {}).get("detail", "")),
            )
            for job in page["data"]
        ),
        nothing="No dead-letter jobs.",
    )


@app.command()
def requeue(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run a dead-letter job again as a new job."""
    job = Client.open(url, key).post(f"/v1/dead-letter/{job_id}/requeue")
    if as_json:
        print_json(job)
    else:
        print_job(job)
