"""Request bodies and responses of the routes for accounts, users, keys and sessions."""

from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from accounts.caller import Role
from accounts.errors import InvalidAccount
from accounts.users import checked_email
from wire.route_groups import ROUTE_GROUPS
from wire.schemas.jobs import Instant
from wire.schemas.sampling import Body
from wire.schemas.usage import Answer

MAX_AMOUNT = 2**53
MAX_SCOPE_ENTRIES = 100


def _clean(value: str) -> str:
    """Reject text that cannot be stored or printed on one line."""
    if not value.isprintable():
        raise PydanticCustomError("text", "expected one line of printable text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", "expected valid Unicode text") from None
    return value


def _email(value: str) -> str:
    try:
        return checked_email(value)
    except InvalidAccount:
        raise PydanticCustomError(
            "email", "expected an email address such as ann@example.com"
        ) from None


def _lines(value: str) -> str:
    for line in value.splitlines():
        _clean(line)
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise PydanticCustomError(
            "network", "expected a network such as 10.0.0.0/8 or 2001:db8::/32"
        ) from None


def _group(value: str) -> str:
    if value not in ROUTE_GROUPS:
        raise PydanticCustomError("group", f"expected one of {', '.join(sorted(ROUTE_GROUPS))}")
    return value


Text = Annotated[str, Field(max_length=128), AfterValidator(_clean)]
Email = Annotated[str, Field(min_length=3, max_length=254), AfterValidator(_email)]
Password = Annotated[str, Field(min_length=1, max_length=256)]
AccountId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT, strict=True)]
Model = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Network = Annotated[str, AfterValidator(_network)]
Group = Annotated[str, AfterValidator(_group)]
RoleName = Annotated[Role, Field(strict=False)]
Weight = Annotated[float, Field(gt=0, le=1000)]


def _some(kind: Any) -> Any:
    return Annotated[list[kind], Field(min_length=1, max_length=MAX_SCOPE_ENTRIES)] | None


class SignIn(Body):
    """Email and password of a user."""

    email: Email
    password: Password


class Refresh(Body):
    """A refresh token."""

    refresh_token: str = Field(min_length=1, max_length=128)


class OwnPassword(Body):
    """The user's current password and a new one."""

    current: Password
    password: Password


class NewPassword(Body):
    """A new password."""

    password: Password


class LimitsChange(Body):
    """Limits to change; 0 means no limit."""

    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None
    max_running: Amount | None = None
    max_queued: Amount | None = None


class KeyFields(Body):
    """Settings of an API key; a null scope (`models`, `routes`, `networks`) allows everything."""

    name: Text = ""
    role: RoleName = Role.MEMBER
    models: _some(Model) = None  # type: ignore[valid-type]
    routes: _some(Group) = None  # type: ignore[valid-type]
    networks: _some(Network) = None  # type: ignore[valid-type]
    limits: LimitsChange = LimitsChange()
    weight: Weight = 1.0
    expires_at: Instant = None


class NewKeyRequest(KeyFields):
    """An API key to create; only the operator may set `account`."""

    account: AccountId | None = None


class Rotation(Body):
    """How long the old key stays valid beside the new one."""

    overlap_seconds: int = Field(default=86_400, ge=0, le=31_536_000)


class NewUser(Body):
    """A user to create; without a password the user signs in through the identity provider."""

    email: Email
    role: RoleName = Role.MEMBER
    password: Password | None = None
    account: AccountId | None = None


class UserUpdateRequest(Body):
    """Changes to a user; scopes and limits bound the user and all keys of the user."""

    role: RoleName | None = None
    disabled: bool | None = None
    models: _some(Model) = None  # type: ignore[valid-type]
    routes: _some(Group) = None  # type: ignore[valid-type]
    networks: _some(Network) = None  # type: ignore[valid-type]
    limits: LimitsChange = LimitsChange()


class AccountFields(Body):
    """What an account's admin may change: the name and the details on invoices."""

    name: Text = ""
    billing_name: Text = ""
    billing_address: Annotated[str, Field(max_length=1000), AfterValidator(_lines)] = ""
    billing_email: Text = ""
    tax_id: Text = ""


class NewAccount(AccountFields):
    """An account to create; operator only."""

    id: AccountId
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    limits: LimitsChange = LimitsChange()


class AccountChange(AccountFields):
    """Changes to an account; operator only."""

    limits: LimitsChange = LimitsChange()
    suspended: bool = False


class SessionAnswer(Answer):
    """An access token for requests, and a refresh token that renews it."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


class LimitsAnswer(Answer):
    """Limits; 0 means no limit."""

    requests_per_minute: int
    tokens_per_minute: int
    max_running: int
    max_queued: int


class KeyAnswer(Answer):
    """An API key; `key`, its secret, is present only in the response that created it."""

    object: Literal["key"]
    id: str
    account: str
    user: str | None
    name: str
    prefix: str | None
    role: Role
    operator: bool
    models: list[str] | None
    routes: list[str] | None
    networks: list[str] | None
    limits: LimitsAnswer
    weight: float
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    rotated_from: str | None
    key: str | None = None


class UserAnswer(Answer):
    """A user; scopes and limits bound the user and all keys of the user."""

    object: Literal["user"]
    id: str
    account: str
    email: str
    role: Role
    operator: bool
    has_password: bool
    models: list[str] | None
    routes: list[str] | None
    networks: list[str] | None
    limits: LimitsAnswer
    created_at: float
    disabled_at: float | None


class AccountAnswer(Answer):
    """An account."""

    object: Literal["account"]
    id: str
    name: str
    currency: str
    billing_name: str
    billing_address: str
    billing_email: str
    tax_id: str
    limits: LimitsAnswer
    created_at: float
    suspended_at: float | None
    deleted_at: float | None


class DeletedAccountAnswer(Answer):
    """How far a deletion has come; unless it is complete, repeat the request."""

    object: Literal["account.deleted"]
    id: str
    complete: bool
    removed: dict[str, int]


class Me(Answer):
    """The caller and its permissions."""

    object: Literal["caller"]
    id: str
    account: str
    user: str | None
    name: str
    role: Role
    operator: bool
    models: list[str] | None
    routes: list[str] | None
    networks: list[str] | None
    limits: LimitsAnswer
    user_limits: LimitsAnswer = Field(description="over all keys of the user; 0: none")
    account_limits: LimitsAnswer
    weight: float
    expires_at: float | None


class AuditAnswer(Answer):
    """One entry of the audit log."""

    object: Literal["audit_entry"]
    id: str
    at: float
    actor: str
    action: str
    target: str
    account: str | None
    details: dict[str, Any]
