"""`penstock users`: creates, lists, changes and disables users.

Invariant: a password is prompted for or read from standard input. It is never an argument, because
other processes can see arguments.
"""

import getpass
import sys
from typing import Annotated

import typer

from accounts.account_rows import ensure_account
from accounts.caller import Role
from accounts.directory_factory import Directory
from accounts.passwords import check_password
from accounts.users import UserUpdate, checked_email
from cli.connect.accounts import with_directory
from cli.connect.actor import actor
from cli.terminal.failures import UsageError
from cli.terminal.options import Json
from cli.terminal.output import ago, err, print_json, print_table
from core.db.database import Database
from wire.views.accounts import user_view

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Create, list, change and disable users."
)

MOST = 10_000
Email = Annotated[str, typer.Argument(help="The user's email address.")]
Account = Annotated[str, typer.Option(help="The user's account.")]


def _password() -> str:
    """Prompt twice for a password, or read it from standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise UsageError("the two passwords differ")
    return first


def _create(email: str, account: str, role: Role, password: str | None, *, operator: bool) -> None:
    async def make(directory: Directory, database: Database) -> str:
        if password is not None:
            check_password(password, checked_email(email))
        await ensure_account(database, account)
        user = await directory.users.create(
            actor(), account, email, role, password, operator=operator
        )
        return str(user.id)

    typer.echo(with_directory(make))


@app.command("create-admin")
def create_admin(email: Email, account: Account = "operator") -> None:
    """Create an operator of this installation. Prompts for a password, or reads it from stdin."""
    _create(email, account, Role.ADMIN, _password(), operator=True)


@app.command()
def create(
    email: Email,
    account: Annotated[str, typer.Argument(help="The user's account.")],
    role: Annotated[Role, typer.Option(help="The role: what the user may do.")] = Role.MEMBER,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user signs in only by the identity provider.")
    ] = False,
) -> None:
    """Create a user of an account. Prompts for a password, or reads it from stdin."""
    _create(email, account, role, None if no_password else _password(), operator=False)


@app.command("list")
def list_users(
    account: Annotated[str | None, typer.Option(help="Only users of this account.")] = None,
    as_json: Json = False,
) -> None:
    """List all users, newest first."""
    rows = with_directory(
        lambda directory, _: directory.users.list(account, before=None, limit=MOST)
    )
    if as_json:
        print_json([user_view(row) for row in rows])
        return
    print_table(
        ("id", "email", "account", "role", "created", ""),
        (
            (
                *(row.id, row.email, row.account_id),
                "operator" if row.operator else row.role,
                f"{ago(row.created_at.timestamp())} ago",
                "disabled" if row.disabled_at else "",
            )
            for row in rows
        ),
        nothing="No users yet: penstock users create-admin EMAIL",
    )


def _change(email: str, change: UserUpdate) -> None:
    async def work(directory: Directory, _: Database) -> None:
        user = await directory.users.id_of(email)
        await directory.users.change(actor(), user, None, change)

    with_directory(work)
    err.print(f"{email} was changed.", soft_wrap=True)


@app.command()
def disable(email: Email) -> None:
    """Disable a user: end all sessions and refuse all keys until the user is enabled again."""
    _change(email, UserUpdate(disabled=True))


@app.command()
def enable(email: Email) -> None:
    """Enable a disabled user."""
    _change(email, UserUpdate(disabled=False))


@app.command("set-role")
def set_role(
    email: Email, role: Annotated[Role, typer.Argument(help="The role: what the user may do.")]
) -> None:
    """Change a user's role."""
    _change(email, UserUpdate(role=role))


@app.command("set-password")
def set_password(email: Email) -> None:
    """Set a user's password and end all sessions. Prompts for it, or reads it from stdin."""
    password = _password()

    async def work(directory: Directory, _: Database) -> None:
        user = await directory.users.id_of(email)
        await directory.users.set_password(actor(), user, None, password)

    with_directory(work)
    err.print(f"{email} has a new password.", soft_wrap=True)
