"""The `penstock` command. Each noun is a module that is imported only when it is used.

Exit codes: 0 done; 1 the server refused or the command failed; 2 wrong usage or settings;
3 no connection.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.help_texts import HELP_TEXTS
from cli.terminal.failures import Failure
from cli.terminal.output import print_failure

#: Noun -> its panel in the help, and its module.
NOUNS = {
    "up": ("Start here", "cli.commands.up"),
    "doctor": ("Start here", "cli.commands.doctor"),
    "jobs": ("Use it", "cli.commands.jobs"),
    "batches": ("Use it", "cli.commands.batches"),
    "models": ("Use it", "cli.commands.models"),
    "webhooks": ("Use it", "cli.commands.webhooks"),
    "keys": ("Run it", "cli.commands.keys"),
    "users": ("Run it", "cli.commands.users"),
    "accounts": ("Run it", "cli.commands.accounts"),
    "workers": ("Run it", "cli.commands.workers"),
    "queues": ("Run it", "cli.commands.queues"),
    "dead": ("Run it", "cli.commands.dead_letter"),
    "prices": ("Run it", "cli.commands.prices"),
    "gpu-rates": ("Run it", "cli.commands.gpu_rates"),
    "budgets": ("Run it", "cli.commands.budgets"),
    "bills": ("Run it", "cli.commands.bills.app"),
    "simulate": ("Plan it", "cli.commands.simulate"),
    "calibrate": ("Plan it", "cli.commands.calibrate"),
    "db": ("Run it", "cli.commands.db"),
    "backup": ("Run it", "cli.commands.backup"),
    "restore": ("Run it", "cli.commands.backup"),
    "redis": ("Single processes, for containers", "cli.commands.processes"),
    "control": ("Single processes, for containers", "cli.commands.processes"),
    "ledger": ("Single processes, for containers", "cli.commands.processes"),
    "deliverer": ("Single processes, for containers", "cli.commands.processes"),
    "feeder": ("Single processes, for containers", "cli.commands.processes"),
    "api": ("Single processes, for containers", "cli.commands.processes"),
    "worker": ("Single processes, for containers", "cli.commands.processes"),
}


class CommandGroups(TyperGroup):
    """Imports the module of a noun, and turns a `Failure` into a message and an exit code."""

    _is_listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every noun in the order of the help."""
        del ctx
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a noun; return None if the noun is unknown."""
        del ctx
        if cmd_name not in NOUNS:
            return None
        panel, module = NOUNS[cmd_name]
        if self._is_listing and cmd_name in HELP_TEXTS:
            text = HELP_TEXTS[cmd_name]
            return TyperCommand(cmd_name, help=text, rich_help_panel=panel)
        command: Any = typer.main.get_command(import_module(module).app)
        if isinstance(command, TyperGroup):
            command = command.commands.get(cmd_name, command)
        command.name, command.rich_help_panel = cmd_name, panel
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of all commands without importing their modules."""
        self._is_listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._is_listing = False

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Failure as failure:
            print_failure(failure)
            raise typer.Exit(failure.exit_code) from None


app = typer.Typer(
    cls=CommandGroups,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 3 no connection.",
)


def _print_version(given: bool) -> None:
    if given:
        typer.echo(version("penstock"))
        raise typer.Exit


@app.callback()
def penstock(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Queue-based inference for language models on your own machines."""
