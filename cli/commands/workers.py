"""`penstock workers`: lists the workers and the states of their circuit breakers."""

from collections.abc import Mapping
from typing import Any

import typer
from rich.text import Text

from cli.connect.api_client import Client
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import print_json, print_table
from cli.terminal.plain_console import styled

COLOURS = {"closed": "green", "half_open": "yellow", "open": "red"}

app = typer.Typer(add_completion=False)


@app.command()
def workers(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the workers and their circuit breakers."""
    page = Client.open(url, key).get("/circuit-breaker/status")
    if as_json:
        print_json(page)
        return
    rows = [
        (
            str(worker.get("id")),
            str(worker.get("queue")),
            str(worker.get("engine")),
            str(worker.get("state")),
            f"{worker.get('running', 0)} of {worker.get('slots', 0)}",
            breaker_text(worker.get("breaker", {})),
        )
        for worker in page["data"]
    ]
    print_table(
        ("worker", "model", "engine", "state", "slots in use", "breaker"),
        rows,
        nothing="No worker is running; jobs wait in their queues.",
    )


def breaker_text(breaker: Mapping[str, Any]) -> Text:
    """Describe a circuit breaker in a cell: its state, what failed, and when it is probed."""
    state = str(breaker.get("state", "unknown"))
    parts: list[str] = [""]
    if failures := breaker.get("failures"):
        successes = breaker.get("successes")  # older workers do not say
        of_all = "" if successes is None else f" of {failures + successes}"
        parts.append(f"{failures}{of_all} failed")
    needed = breaker.get("probes_needed") or 1
    if state == "half_open" and needed > 1:
        parts.append(f"{breaker.get('probes_succeeded', 0)} of {needed} probes succeeded")
    if probe := breaker.get("seconds_to_probe"):
        parts.append(f"probed in {probe:.0f} s")
    return styled((state, COLOURS.get(state, "dim")), ", ".join(parts))
