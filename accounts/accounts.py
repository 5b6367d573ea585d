"""Accounts: who pays, and the limits of all its keys; the operator can suspend one.

Invariant: a suspended account is refused everywhere within a second and loses no data.
"""

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.cache_records import ACCOUNTS
from accounts.cache_sync import CacheSync
from accounts.errors import AccountExists, AccountNotFound
from accounts.records import ACCOUNT, AccountRecord
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.accounts import AccountRow
from core.db.tables.base import now

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
            return await _find(connection, account)

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


async def _find(connection: AsyncConnection, account: str) -> AccountRecord:
    if ID.fullmatch(account) is None:
        raise AccountNotFound(f"account {account!r} not found", param="account")
    query = select(*ACCOUNT).where(ACCOUNTS.c.id == account)
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise AccountNotFound(f"account {account!r} not found", param="account")
    return AccountRecord(*found)
