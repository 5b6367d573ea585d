"""Accounts: who pays, and the limits of all its keys; the operator can suspend one.

Invariant: a suspended account is refused everywhere within a second and loses no data. The id of
a deleted account is never given again.
"""

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.cache_records import ACCOUNTS, KEYS, TOKENS, USERS
from accounts.cache_sync import CacheSync, fields_of_account
from accounts.errors import AccountExists, AccountNotFound
from accounts.records import ACCOUNT, AccountRecord
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.accounts import AccountRow
from core.db.tables.base import now

#: Details of an account that are cleared when it is deleted.
PERSONAL = ("name", "billing_name", "billing_address", "billing_email", "tax_id", "tax_note")

ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Accounts:
    """The accounts in SQL."""

    def __init__(self, database: Database, cache_sync: CacheSync) -> None:
        self._database = database
        self._cache_sync = cache_sync

    async def create(self, actor: str, account: str, values: Mapping[str, object]) -> AccountRecord:
        """Add an account.

        Raises:
            AccountExists: The id is taken.
        """
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(AccountRow), [{"id": account, **values}])
                await audit(connection, actor, "account_created", account, account=account)
                return await _find(connection, account)
        except IntegrityError:
            raise AccountExists(f"account {account!r} exists already", param="id") from None

    async def delete(
        self, actor: str, account: str, *, keep_billing: bool, forced: bool
    ) -> tuple[int, int]:
        """Delete an account's keys and users and mark it as deleted; may be repeated.

        Args:
            actor: Who deletes it.
            account: The account, which has no jobs, files or webhooks any more.
            keep_billing: Keep the details for invoices, because one is still to come.
            forced: Noted in the audit log.

        Returns:
            How many keys and users were deleted.

        Raises:
            AccountNotFound: There is none.
        """
        of_users = select(USERS.c.id).where(USERS.c.account_id == account)
        async with self._database.write() as connection:
            row = await _find(connection, account, deleted=True)
            fields = await fields_of_account(connection, account)
            await connection.execute(delete(TOKENS).where(TOKENS.c.user_id.in_(of_users)))
            keys = await connection.execute(delete(KEYS).where(KEYS.c.account_id == account))
            users = await connection.execute(delete(USERS).where(USERS.c.account_id == account))
            cleared = {} if keep_billing else dict.fromkeys(PERSONAL, "")
            values = {"suspended_at": now(), "deleted_at": row.deleted_at or now(), **cleared}
            change = update(ACCOUNTS).where(ACCOUNTS.c.id == account)
            await connection.execute(change.values(**values, changed_at=now()))
            if row.deleted_at is None or keys.rowcount or users.rowcount:
                await audit(
                    connection,
                    *(actor, "account_deleted", account),
                    account=account,
                    forced=forced,
                    kept_billing_details=keep_billing,
                )
        await self._cache_sync.try_copy(fields)
        return keys.rowcount, users.rowcount

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[AccountRecord]:
        """Return accounts by id."""
        query = select(*ACCOUNT).where(ACCOUNTS.c.id > after).order_by(ACCOUNTS.c.id).limit(limit)
        async with self._database.read() as connection:
            return [AccountRecord(*row) for row in await connection.execute(query)]

    async def get(self, account: str) -> AccountRecord:
        """Return an account.

        Raises:
            AccountNotFound: There is none.
        """
        async with self._database.read() as connection:
            return await _find(connection, account, deleted=True)

    async def change(self, actor: str, account: str, values: Mapping[str, object]) -> AccountRecord:
        """Change columns of an account; `suspended` is the time of its suspension, or None.

        Raises:
            AccountNotFound: There is none.
            StoreUnavailable: The change is made and takes effect within seconds.
        """
        async with self._database.write() as connection:
            await _find(connection, account)
            query = update(ACCOUNTS).where(ACCOUNTS.c.id == account)
            await connection.execute(query.values(**values, changed_at=now()))
            fields = sorted(values)
            await audit(
                connection, actor, "account_changed", account, account=account, fields=fields
            )
            row = await _find(connection, account)
        await self._cache_sync.copy_account(account)
        return row

    async def suspend(self, actor: str, account: str, *, suspended: bool) -> AccountRecord:
        """Suspend or resume an account; its running jobs go on.

        Raises:
            AccountNotFound: There is none.
            StoreUnavailable: The change is made and takes effect within seconds.
        """
        return await self.change(actor, account, {"suspended_at": now() if suspended else None})


async def _find(
    connection: AsyncConnection, account: str, *, deleted: bool = False
) -> AccountRecord:
    if ID.fullmatch(account) is None:
        raise AccountNotFound(f"account {account!r} not found", param="account")
    query = select(*ACCOUNT).where(ACCOUNTS.c.id == account)
    found = (await connection.execute(query)).one_or_none()
    if found is None or (found.deleted_at is not None and not deleted):
        raise AccountNotFound(f"account {account!r} not found", param="account")
    return AccountRecord(*found)
