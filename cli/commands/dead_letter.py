"""`penstock dead`: lists jobs that failed too often, runs them again, and deletes them."""

from typing import Annotated, Any

import typer

from cli.connect.api_client import Client
from cli.connect.job_progress import print_job
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, Key, Url, instant
from cli.terminal.output import ago, err, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List the dead-letter jobs, run them again, and delete them.",
)

Job = Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job's id.")]
Account = Annotated[
    str | None, typer.Option(help="For operators: only jobs of this account.", metavar="ACCOUNT")
]
Model = Annotated[str | None, typer.Option(help="Only jobs of this model.", metavar="MODEL")]
Reason = Annotated[
    str | None,
    typer.Option(help="Only jobs whose last error has this code.", metavar="CODE"),
]
After = Annotated[
    str | None,
    typer.Option(help="Only jobs that failed then or later: 2026-12-01T00:00Z.", metavar="TIME"),
]
Before = Annotated[
    str | None, typer.Option(help="Only jobs that failed before then.", metavar="TIME")
]
Everything = Annotated[bool, typer.Option("--all", help="All jobs that the other options leave.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the jobs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command("list")
def list_dead_letter(
    limit: Annotated[int, typer.Option(help="The most jobs to list.", min=1, max=100)] = 20,
    after: Annotated[
        str | None, typer.Option(help="Continue after a page: its `last_id`.", metavar="ID")
    ] = None,
    account: Account = None,
    model: Model = None,
    reason: Reason = None,
    failed_after: After = None,
    failed_before: Before = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List dead-letter jobs, newest first. An operator's key lists those of all accounts."""
    wanted = _filter(account, model, reason, failed_after, failed_before)
    page = Client.open(url, key).get("/v1/dead-letter", limit=limit, after=after, **wanted)
    if as_json:
        print_json(page)
        return
    print_table(
        ("job", "account", "model", "failed", "attempts", "code", "why"),
        (
            (
                job["id"],
                job.get("account", ""),
                job["model"],
                f"{ago(job['completed_at'])} ago",
                str(job["attempt"]),
                str((job.get("error") or {}).get("code", "")),
                str((job.get("error") or {}).get("detail", "")),
            )
            for job in page["data"]
        ),
        nothing="No dead-letter jobs.",
    )
    if page["has_more"]:
        err.print(f"There are more: --after {page['last_id']}", soft_wrap=True)


@app.command()
def requeue(
    job_id: Job = None,
    everything: Everything = False,
    account: Account = None,
    model: Model = None,
    reason: Reason = None,
    failed_after: After = None,
    failed_before: Before = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run one dead-letter job, or all that match, again as new jobs."""
    wanted = _filter(account, model, reason, failed_after, failed_before)
    client = Client.open(url, key)
    if job_id is None:
        _check_selection(wanted, everything=everything)
        _act(client, "requeue", wanted, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    _check_alone(wanted, everything=everything or dry_run)
    job = client.post(f"/v1/dead-letter/{job_id}/requeue")
    if as_json:
        print_json(job)
    else:
        print_job(job)


@app.command()
def delete(
    job_id: Job = None,
    everything: Everything = False,
    account: Account = None,
    model: Model = None,
    reason: Reason = None,
    failed_after: After = None,
    failed_before: Before = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete one dead-letter job, or all that match, with their events."""
    wanted = _filter(account, model, reason, failed_after, failed_before)
    client = Client.open(url, key)
    if job_id is None:
        _check_selection(wanted, everything=everything)
        _act(client, "delete", wanted, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    _check_alone(wanted, everything=everything or dry_run)
    client.delete(f"/v1/dead-letter/{job_id}")
    err.print(f"{job_id} deleted", soft_wrap=True)


def _filter(
    account: str | None,
    model: str | None,
    reason: str | None,
    after: str | None,
    before: str | None,
) -> dict[str, Any]:
    """Return the given filters as the API takes them."""
    given = {
        "account": account,
        "model": model,
        "reason": reason,
        "failed_after": after and instant("--failed-after", after).timestamp(),
        "failed_before": before and instant("--failed-before", before).timestamp(),
    }
    return {name: value for name, value in given.items() if value is not None}


def _check_selection(wanted: dict[str, Any], *, everything: bool) -> None:
    if not wanted and not everything:
        raise UsageError("no job is named", "name a job, give a filter, or --all")


def _check_alone(wanted: dict[str, Any], *, everything: bool) -> None:
    if wanted or everything:
        raise UsageError("a job is named, so no other option can select jobs")


def _act(
    client: Client, verb: str, wanted: dict[str, Any], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Count the jobs, ask, and act on them group by group."""
    path = f"/v1/dead-letter/{verb}"
    counted = client.post(path, {**wanted, "dry_run": True})
    if dry_run:
        _show(counted, f"{_number(counted)} dead-letter jobs match", as_json=as_json)
        return
    if not yes:
        typer.confirm(f"{verb.capitalize()} {_number(counted)} dead-letter jobs?", abort=True)
    total: dict[str, Any] = {"matched": 0, "done": 0, "refused": []}
    answer: dict[str, Any] = {"has_more": True, "last_id": None}
    while answer["has_more"]:
        answer = client.post(path, {**wanted, "after": answer["last_id"]})
        total = {name: total[name] + answer[name] for name in total}
    _show({**answer, **total}, f"{total['done']} jobs {verb}d", as_json=as_json)
    if total["refused"]:
        raise typer.Exit(1)


def _number(counted: dict[str, Any]) -> str:
    return f"{'more than ' if counted['has_more'] else ''}{counted['matched']}"


def _show(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    typer.echo(text)
    for job in answer["refused"]:
        err.print(f"  {job['id']}: {job['detail']}", soft_wrap=True)
