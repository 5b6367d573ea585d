"""`penstock queues`: shows the queues, and pauses, drains, closes, resumes or purges one."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.connect.api_client import Client
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show the queues, and pause, drain, close, resume or purge one.",
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The served model's name.")]


@app.command("list")
def list_queues(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the queues that workers have served."""
    page = Client.open(url, key).get("/v1/admin/queues")
    if as_json:
        print_json(page)
    else:
        _print(page["data"])


@app.command()
def pause(model: Model, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Pause a queue: start no more jobs. Running jobs continue."""
    _show(_act(Client.open(url, key), model, "pause"), as_json=as_json)


@app.command()
def drain(model: Model, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Drain a queue: accept no more jobs. A paused queue stays paused, so it is closed then."""
    _show(_act(Client.open(url, key), model, "drain"), as_json=as_json)


@app.command()
def close(model: Model, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Close a queue: accept no more jobs and start none. Running jobs continue."""
    _show(_act(Client.open(url, key), model, "close"), as_json=as_json)


@app.command()
def resume(model: Model, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Open a paused, draining or closed queue."""
    _show(_act(Client.open(url, key), model, "resume"), as_json=as_json)


@app.command("set")
def set_mode(
    model: Model,
    mode: Annotated[str, typer.Argument(help="open, paused, draining or closed.")],
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Set a queue's mode, whatever it was: open, paused, draining or closed."""
    queue = Client.open(url, key).patch(f"/v1/admin/queues/{quote(model)}", {"mode": mode})
    _show(queue, as_json=as_json)


@app.command()
def purge(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Cancel every queued job of a model."""
    if not yes:
        typer.confirm(f"Cancel every queued job of {model}?", abort=True)
    client = Client.open(url, key)
    cancelled, complete = 0, False
    while not complete:
        queue = _act(client, model, "purge")
        cancelled, complete = cancelled + queue["cancelled"], queue["complete"]
    if as_json:
        print_json(queue | {"cancelled": cancelled})
        return
    typer.echo(f"{cancelled} jobs cancelled")
    _print([queue])


def _act(client: Client, model: str, verb: str) -> dict[str, Any]:
    return client.post(f"/v1/admin/queues/{quote(model)}/{verb}")


def _show(queue: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(queue)
    else:
        _print([queue])


def _print(queues: list[dict[str, Any]]) -> None:
    print_table(
        ("model", "mode", "ready", "parked", "delayed", "running", "workers", "slots", "changed"),
        (
            (
                queue["model"],
                queue["mode"],
                *(str(queue[name]) for name in ("ready", "parked", "delayed", "running")),
                *(str(queue[name]) for name in ("workers", "slots")),
                _changed(queue),
            )
            for queue in queues
        ),
        nothing="No worker has served a queue yet.",
    )


def _changed(queue: dict[str, Any]) -> str:
    if not queue["changed_at"]:
        return ""
    return f"{ago(queue['changed_at'])} ago by {queue['changed_by']}"
