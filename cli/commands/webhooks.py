"""`penstock webhooks`: manages an account's webhook endpoints and shows their deliveries."""

from typing import Annotated, Any

import typer

from cli.connect.api_client import Client
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, err, out, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Send events of jobs and batches to a URL."
)

Webhook = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The endpoint's id.")]


@app.command()
def create(
    target: Annotated[str, typer.Argument(metavar="URL", help="The URL that receives the events.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="Send only this event, such as job.failed; may be repeated."),
    ] = None,
    description: Annotated[str, typer.Option(help="A description, for people.")] = "",
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create an endpoint and print its secret; the secret is shown only now."""
    body = {"url": target, "events": event or [], "description": description}
    created = Client.open(url, key).post("/v1/webhooks", body)
    _show_secret(created, as_json=as_json)


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
    """Replace an endpoint's secret and print the new one; the old one is valid for a while."""
    created = Client.open(url, key).post(f"/v1/webhooks/{webhook}/rotate")
    _show_secret(created, as_json=as_json)


def _show_secret(created: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(created)
        return
    typer.echo(created["id"])
    err.print(f"Deliveries are signed with {created['secret']}; it is shown only now.")


@app.command()
def enable(webhook: Webhook, url: Url = None, key: Key = None) -> None:
    """Enable a disabled endpoint."""
    Client.open(url, key).post(f"/v1/webhooks/{webhook}/enable")


@app.command("test")
def send_test(webhook: Webhook, url: Url = None, key: Key = None) -> None:
    """Send a test event to an endpoint; print the delivery's id."""
    typer.echo(Client.open(url, key).post(f"/v1/webhooks/{webhook}/test")["id"])


@app.command()
def remove(webhook: Webhook, url: Url = None, key: Key = None) -> None:
    """Remove an endpoint."""
    Client.open(url, key).delete(f"/v1/webhooks/{webhook}")


@app.command()
def deliveries(
    webhook: Annotated[
        str | None, typer.Argument(metavar="[WEBHOOK]", help="Only deliveries to this endpoint.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Only this state: pending, delivered or failed.")
    ] = None,
    limit: Annotated[int, typer.Option(help="The most deliveries to list.", min=1, max=100)] = 20,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List deliveries, newest first, including those to URLs of single jobs."""
    path = f"/v1/webhooks/{webhook}/deliveries" if webhook else "/v1/webhooks/deliveries"
    page = Client.open(url, key).get(path, limit=limit, state=state)
    if as_json:
        print_json(page)
        return
    print_table(
        ("delivery", "type", "url", "state", "attempts", "created", "why"),
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
    """Send a delivery again, with the same id."""
    sent = Client.open(url, key).post(f"/v1/webhooks/deliveries/{delivery}/redeliver")
    out.print(f"{sent['id']} is on its way")
