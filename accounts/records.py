"""Accounts, users and API keys as SQL keeps them.

Invariant: the queries of this package return these classes, so mypy checks every use of a column.
"""

from dataclasses import dataclass, field
from datetime import datetime

from accounts.caller import Limits
from core.db.row_mapping import columns_of
from core.db.tables.accounts import AccountRow, ApiKeyRow, UserRow
from core.db.tables.base import table_of


@dataclass(frozen=True, slots=True)
class StoredLimits:
    """The limits of a key or an account, as columns; 0 means no limit."""

    requests_per_minute: int
    tokens_per_minute: int
    max_running: int
    max_queued: int

    @property
    def limits(self) -> Limits:
        """The limits as one value."""
        return Limits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_running=self.max_running,
            max_queued=self.max_queued,
        )


@dataclass(frozen=True, slots=True)
class AccountState(StoredLimits):
    """What of an account its keys and users are checked against."""

    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class AccountRecord(AccountState):
    """An account; the texts of its invoices are in `billing_*` and `tax_*`."""

    id: str
    name: str
    currency: str
    billing_name: str
    billing_address: str
    billing_email: str
    tax_id: str
    tax_note: str
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class UserRecord(StoredLimits):
    """A user; `password_hash` is None for one who signs in through an identity provider.

    Attributes:
        models: The models that the user and all keys of the user may use; None means all. The same
            for `routes` and `networks`.
    """

    id: str
    account_id: str
    email: str
    role: str
    password_hash: str | None = field(repr=False)
    created_at: datetime
    disabled_at: datetime | None
    operator: bool
    session: int
    models: list[str] | None
    routes: list[str] | None
    networks: list[str] | None


@dataclass(frozen=True, slots=True)
class KeyRecord(StoredLimits):
    """An API key without its secret; `admin` makes it a key of the operator.

    Attributes:
        models: The models it may use; None means all. The same for `routes` and `networks`.
        prefix: The start of the key, which is shown; None for keys from before it was kept.
        rotated_from: The id of the key that it follows.
        origin_id: The first key of the rotations that made it; None for a key of its own.
        set_by: The rank of who set a bound, by the name of its column; see `bounds.py`.
    """

    id: str
    account_id: str
    user_id: str | None
    sha256: str = field(repr=False)
    name: str
    role: str
    models: list[str] | None
    routes: list[str] | None
    networks: list[str] | None
    weight: float
    admin: bool
    prefix: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_from: str | None
    origin_id: str | None
    set_by: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class KeyMaker:
    """What of the user who made a key limits it; all None for a key without a user."""

    role: str | None
    operator: bool | None
    disabled_at: datetime | None
    models: list[str] | None
    routes: list[str] | None
    networks: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_running: int | None
    max_queued: int | None

    @property
    def limits(self) -> Limits:
        """The limits of the user, over all keys; 0 is none."""
        return Limits(
            requests_per_minute=self.requests_per_minute or 0,
            tokens_per_minute=self.tokens_per_minute or 0,
            max_running=self.max_running or 0,
            max_queued=self.max_queued or 0,
        )


ACCOUNT = columns_of(table_of(AccountRow), AccountRecord)
ACCOUNT_STATE = columns_of(table_of(AccountRow), AccountState)
USER = columns_of(table_of(UserRow), UserRecord)
KEY = columns_of(table_of(ApiKeyRow), KeyRecord)
KEY_MAKER = columns_of(table_of(UserRow), KeyMaker)
