"""The caller of a request: the record of a key, or of a person who signed in.

Invariant: no secret is kept, only its SHA-256 (keys are 256 random bits, so a slow hash would add
nothing). The account and its limits come from the record alone.
"""

import hashlib
import time
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from core.errors import AccountSuspended, Unauthenticated

#: The prefix of every key.
PREFIX = "pk_"


class Role(StrEnum):
    """A caller's role within its account; `intake.permissions` maps roles to routes."""

    ADMIN = "admin"
    MEMBER = "member"
    BILLING = "billing"
    VIEWER = "viewer"


class Limits(BaseModel):
    """Limits of a key or of a whole account; 0 means no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    max_running: int = Field(default=0, ge=0)
    max_queued: int = Field(default=0, ge=0)


NO_LIMITS = Limits()


class Caller(BaseModel):
    """A key's record, or that of a person who signed in (`user` = `id`).

    Attributes:
        operator: Runs the installation, above all roles. Stored as `admin`, which older versions
            read.
        origin: The first key of the rotations that made this key; "" for a key of its own.
        weight: The share in fair queueing.
        models: Allowed models; None means all. The same for `routes` and `networks`.
        user_limits: Limits of the key's user, over all keys of the user.
        expires: Unix seconds, 0 for never.
        session: Sign-ins of a person with a lower number do not count any more.
        ended: Sign-ins of a person that were ended one by one.
    """

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, serialize_by_alias=True
    )

    id: str
    account: str
    user: str = ""
    name: str = ""
    origin: str = ""
    role: Role = Role.MEMBER
    operator: bool = Field(default=False, alias="admin")
    weight: float = 1.0
    models: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    networks: tuple[str, ...] | None = None
    limits: Limits = NO_LIMITS
    user_limits: Limits = NO_LIMITS
    account_limits: Limits = NO_LIMITS
    expires: float = 0.0
    suspended: bool = False
    session: int = 0
    ended: tuple[str, ...] = ()

    @property
    def quota_id(self) -> str:
        """The id that the budget and limits of a key belong to; a rotation keeps it."""
        return self.origin or self.id

    @property
    def limited(self) -> bool:
        """Whether it is a key with scopes that are narrower than its role, or that expires.

        The bounds of a person are also those of every key of the person.
        """
        if self.id == self.user:
            return False
        scopes = self.models, self.routes, self.networks
        return bool(self.expires) or scopes != (None, None, None)

    def check(self, *, though_suspended: bool = False) -> None:
        """Refuse an expired or suspended caller.

        Args:
            though_suspended: Let the callers of suspended accounts pass.

        Raises:
            Unauthenticated: The key has expired.
            AccountSuspended: The account is suspended.
        """
        if self.expires and time.time() >= self.expires:
            raise Unauthenticated("this API key has expired")
        if self.suspended and not though_suspended:
            raise AccountSuspended(f"the account {self.account} is suspended")


def digest_of(secret: str) -> str:
    """Return the digest that is stored instead of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
