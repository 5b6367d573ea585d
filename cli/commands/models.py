"""`penstock models`: lists the served models."""

import typer

from cli.connect.api_client import Client
from cli.terminal.failures import UsageError
from cli.terminal.options import Json, Key, Url
from cli.terminal.output import ago, print_json, print_table

app = typer.Typer(add_completion=False)


@app.command()
def models(as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """List the served models."""
    page = Client.open(url, key).get("/v1/models")
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


def first_model(client: Client) -> str:
    """Return the first served model's name.

    Raises:
        UsageError: no model is served.
    """
    served = client.get("/v1/models")["data"]
    if not served:
        raise UsageError("no model is served yet", "wait for a worker, or name a model: --model")
    return str(served[0]["id"])
