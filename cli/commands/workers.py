"""`penstock workers`: lists the workers and the states of their circuit breakers."""

import typer

from cli.connect.api_client import Client
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import print_json, print_table

COLOURS = {"closed": "green", "half_open": "yellow", "open": "red"}

app = typer.Typer(add_completion=False)


@app.command()
def workers(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the workers and their circuit breakers."""
    page = Client.open(url, key).get("/circuit-breaker/status")
    if as_json:
        print_json(page)
        return
    rows = []
    for worker in page["data"]:
        breaker = worker.get("breaker", {})
        state = str(breaker.get("state", "unknown"))
        probe = breaker.get("seconds_to_probe") or 0
        next_probe = f", probed in {probe:.0f} s" if probe else ""
        rows.append(
            (
                str(worker.get("id")),
                str(worker.get("queue")),
                str(worker.get("engine")),
                str(worker.get("state")),
                f"{worker.get('running', 0)} of {worker.get('slots', 0)}",
                f"[{COLOURS.get(state, 'dim')}]{state}[/]{next_probe}",
            )
        )
    print_table(
        ("worker", "model", "engine", "state", "slots in use", "breaker"),
        rows,
        nothing="No worker is running; jobs wait in their queues.",
    )
