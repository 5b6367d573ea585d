"""Prints API keys: a new one with its secret, and the list without secrets."""

from collections.abc import Sequence

import typer

from accounts.api_keys import MadeKey
from accounts.records import KeyRecord
from cli.terminal.output import ago, err, print_json, print_table
from wire.views.accounts import key_view

COLUMNS = ("id", "key", "account", "name", "role", "scopes", "weight", "max running", "created", "")


def print_keys(rows: Sequence[KeyRecord]) -> None:
    """Print a table of keys."""
    nothing = "No keys yet: penstock keys create ACCOUNT"
    print_table(COLUMNS, map(_row, rows), nothing=nothing)


def print_new_key(created: MadeKey, *, as_json: bool) -> None:
    """Print a new key to stdout; it cannot be shown again."""
    if as_json:
        print_json({**key_view(created.row), "key": created.secret})
    else:
        typer.echo(created.secret)
        err.print(
            f"{created.row.id}: only its hash is stored, so the key is shown only now.",
            soft_wrap=True,
        )


def _row(row: KeyRecord) -> tuple[str, ...]:
    allowed = {"models": row.models, "routes": row.routes, "networks": row.networks}
    scopes = [f"{name} {','.join(ids)}" for name, ids in allowed.items() if ids is not None]
    state = "revoked" if row.revoked_at else f"ends {row.expires_at}" if row.expires_at else ""
    return (
        row.id,
        f"{row.prefix}...",
        row.account_id,
        row.name,
        "operator" if row.admin else row.role,
        "; ".join(scopes),
        f"{row.weight:g}",
        str(row.max_running or "no cap"),
        f"{ago(row.created_at.timestamp())} ago",
        state,
    )
