"""`penstock models`: lists the served models, and retires and restores models."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.connect.api_client import Client
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, err, print_json, print_table

app = typer.Typer(add_completion=False, help="List the served models, and retire some.")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the served models, and retire some."""
    if context.invoked_subcommand is None:
        _list(Client.open(url, key), as_json=as_json)


@app.command("list")
def list_models(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the served models."""
    _list(Client.open(url, key), as_json=as_json)


@app.command()
def retired(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the retired models, and those that still have jobs to end."""
    page = Client.open(url, key).get("/v1/admin/models")
    if as_json:
        print_json(page)
    else:
        _print(page["data"])


@app.command()
def retire(
    model: Model,
    finish: Annotated[
        bool, typer.Option("--finish", help="Let workers finish its jobs first.")
    ] = False,
    dead_letter: Annotated[
        bool, typer.Option("--dead-letter", help="Move its waiting jobs to the dead-letter list.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Retire a model: it is not listed and accepts nothing. One with jobs needs an option."""
    if finish and dead_letter:
        raise UsageError("choose --finish or --dead-letter")
    jobs = "finish" if finish else "dead_letter" if dead_letter else "refuse"
    path = f"/v1/admin/models/{quote(model)}/retire"
    found = Client.open(url, key).post(path, {"jobs": jobs})
    if as_json:
        print_json(found)
    else:
        _print([found])


@app.command()
def restore(model: Model, url: Url = None, key: Key = None) -> None:
    """End a retirement: the model is known again as soon as a worker serves it."""
    Client.open(url, key).post(f"/v1/admin/models/{quote(model)}/restore")
    err.print(f"{model} is not retired any more.", soft_wrap=True)


def first_model(client: Client) -> str:
    """Return the first served model's name.

    Raises:
        UsageError: no model is served.
    """
    served = client.get("/v1/models")["data"]
    if not served:
        raise UsageError("no model is served yet", "wait for a worker, or name a model: --model")
    return str(served[0]["id"])


def _list(client: Client, *, as_json: bool) -> None:
    page = client.get("/v1/models")
    if as_json:
        print_json(page)
        return
    print_table(
        ("model", "owner", "since"),
        (
            (model["id"], str(model.get("owned_by", "")), f"{ago(model.get('created'))} ago")
            for model in page["data"]
        ),
        nothing="No worker has served a model yet.",
    )


def _print(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("model", "state", "jobs", "waiting", "running", "workers", "retired"),
        (
            (
                *(str(row[name]) for name in ("id", "state", "jobs")),
                *(str(row[name]) for name in ("waiting", "running", "workers")),
                f"{ago(row['retired_at'])} ago by {row['retired_by']}",
            )
            for row in rows
        ),
        nothing="No model is retired.",
    )
