"""`penstock webhooks`: where an account is told what happened, and how telling it went."""

from typing import Annotated, Any

import typer

from cli.connect.api_client import Client
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, err, out, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Have a URL told what happened to jobs."
)

Webhook = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The endpoint's id.")]


@app.command()
def create(
    target: Annotated[str, typer.Argument(metavar="URL", help="The URL to be told.")],
    event: Annotated[
        list[str] | None, typer.Option(help="Only this, such as job.failed; may be repeated.")
    ] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Add an endpoint and print its secret; it is shown only now."""
    body = {"url": target, "events": event or [], "description": description}
    made = Client.open(url, key).post("/v1/webhooks", body)
    _show_secret(made, as_json=as_json)


@app.command("list")
def list_webhooks(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the endpoints of this key's account."""
    page = Client.open(url, key).get("/v1/webhooks")
    if as_json:
        print_json(page)
        return
    print_table(
        ("webhook", "url", "events", "state"),
        (
            (one["id"], one["url"], ", ".join(one["events"]) or "all", _state(one))
            for one in page["data"]
        ),
        nothing="No webhooks.",
    )


def _state(webhook: dict[str, Any]) -> str:
    if webhook["disabled_at"]:
        return f"disabled {ago(webhook['disabled_at'])} ago: {webhook['disabled_why']}"
    if webhook["failing_since"]:
        return f"failing for {ago(webhook['failing_since'])}"
    return "fine"


@app.command()
def rotate(webhook: Webhook, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Give an endpoint a new secret and print it; the one before goes on to count for a while."""
    made = Client.open(url, key).post(f"/v1/webhooks/{webhook}/rotate")
    _show_secret(made, as_json=as_json)


def _show_secret(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    typer.echo(made["id"])
    err.print(f"Deliveries are signed with {made['secret']}; it is shown only now.")


@app.command()
def enable(webhook: Webhook, url: Url = None, key: Key = None) -> None:
    """Let an endpoint that was disabled be told again."""
    Client.open(url, key).post(f"/v1/webhooks/{webhook}/enable")


@app.command("test")
def send_test(webhook: Webhook, url: Url = None, key: Key = None) -> None:
    """Send an endpoint a test event; prints the delivery's id."""
    typer.echo(Client.open(url, key).post(f"/v1/webhooks/{webhook}/test")["id"])


@app.command()
def remove(webhook: Webhook, url: Url = None, key: Key = None) -> None:
    """Remove an endpoint."""
    Client.open(url, key).delete(f"/v1/webhooks/{webhook}")


@app.command()
def deliveries(
    webhook: Annotated[
        str | None, typer.Argument(metavar="[WEBHOOK]", help="Only to this endpoint.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Only these: pending, delivered or failed.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 20,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List deliveries, newest first; also those to the URLs of jobs."""
    path = f"/v1/webhooks/{webhook}/deliveries" if webhook else "/v1/webhooks/deliveries"
    page = Client.open(url, key).get(path, limit=limit, state=state)
    if as_json:
        print_json(page)
        return
    print_table(
        ("delivery", "type", "url", "state", "attempts", "made", "why"),
        (
            (
                *(one["id"], one["type"], one["url"], one["state"], str(one["attempts"])),
                f"{ago(one['created_at'])} ago",
                one["failure"] or "",
            )
            for one in page["data"]
        ),
        nothing="No deliveries.",
    )


@app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Send a delivery once more, under the same id."""
    sent = Client.open(url, key).post(f"/v1/webhooks/deliveries/{delivery}/redeliver")
    out.print(f"{sent['id']} is on its way")
