"""`penstock bills reconcile`: checks that jobs, delivered tokens, ledger and invoices agree."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from billing.reconcile.findings import Difference, Findings
from billing.reconcile.repair import LedgerRepair
from billing.reconcile.run import reconcile
from cli.connect.database import with_database
from cli.connect.settings import load_local_settings
from cli.terminal.failures import Unreachable
from cli.terminal.options import Json
from cli.terminal.output import err, print_json, print_table
from core.db.database import Database
from core.errors import StoreUnavailable
from jobs.store.store_factory import open_store


def reconcile_month(
    month: Annotated[str, typer.Option(help="A UTC month, such as 2026-11.")],
    listed: Annotated[
        int, typer.Option("--list", min=1, help="The most differences of each kind to list.")
    ] = 20,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Record finished jobs that Redis still holds and the ledger lost."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare a month's jobs, event logs, outbox, ledger and invoices. Exit code 1: they differ."""
    with err.status("") as status:
        findings = Findings(listed, status.update)
        with_database(lambda database: _reconcile(database, month, findings, repair=repair))
    if as_json:
        print_json(_as_json(month, findings))
    else:
        _print(month, findings)
    if not findings.clean:
        raise typer.Exit(1)


async def _reconcile(database: Database, month: str, findings: Findings, *, repair: bool) -> None:
    settings = load_local_settings()
    store = open_store(settings)
    try:
        mend = LedgerRepair(store, database, settings.billing) if repair else None
        await reconcile(store, database, month, findings, mend)
    except StoreUnavailable as error:
        raise Unreachable("Redis does not answer", error.message, "PENSTOCK_REDIS__URL") from None
    finally:
        await store.close()


def _as_json(month: str, findings: Findings) -> dict[str, object]:
    return {
        "month": month,
        "clean": findings.clean,
        "compared": dict(findings.compared),
        "differences": dict(findings.counts),
        "listed": [asdict(difference) for difference in findings.listed],
    }


def _print(month: str, findings: Findings) -> None:
    print_table(
        ("kind", "job or other", "what", "expected", "found"),
        [_row(difference) for difference in findings.listed],
        nothing=f"{month}: no differences.",
    )
    for kind, count in findings.counts.items():
        err.print(f"{count:,} {kind}")
    compared = (f"{count:,} {name}" for name, count in findings.compared.items())
    err.print(f"Compared: {', '.join(compared)}.")


def _row(difference: Difference) -> Sequence[str]:
    values = difference.kind, difference.subject, difference.what
    return (*map(str, values), difference.expected, difference.found)
