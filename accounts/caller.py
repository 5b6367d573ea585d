"""Who calls: the record of a key, or of a person who signed in.

Invariant: no secret is kept, only its SHA-256 (keys are 256 random bits, so a slow hash would add
nothing). The account and its limits come from the record alone.
"""

import hashlib
import time
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from core.errors import AccountSuspended, Unauthenticated

#: What every key begins with.
PREFIX = "pk_"


class Role(StrEnum):
    """What a caller may do within its account; `intake.permissions` says which routes that is."""

    ADMIN = "admin"
    MEMBER = "member"
    BILLING = "billing"
    VIEWER = "viewer"


class Limits(BaseModel):
    """What a key, or a whole account, may use at most; 0 means no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    max_running: int = Field(default=0, ge=0)
    max_queued: int = Field(default=0, ge=0)


NO_LIMITS = Limits()


class Caller(BaseModel):
    """What a caller may do: a key's record, or that of a person who signed in (`user` = `id`).

    `admin` is the operator of the installation, above all roles. `weight` is the fair share; of
    `models`, `routes` and `networks` None means all. `expires` is in Unix seconds, 0 never.
    `session` and `ended` tell which sign-ins of a person still count.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    account: str
    user: str = ""
    name: str = ""
    role: Role = Role.MEMBER
    admin: bool = False
    weight: float = 1.0
    models: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    networks: tuple[str, ...] | None = None
    limits: Limits = NO_LIMITS
    account_limits: Limits = NO_LIMITS
    expires: float = 0.0
    suspended: bool = False
    session: int = 0
    ended: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether it may do less than its role, or not for ever."""
        scopes = self.models, self.routes, self.networks
        return bool(self.expires) or scopes != (None, None, None)

    def check(self) -> None:
        """Refuse a record that is no longer good.

        Raises:
            Unauthenticated: it has expired.
            AccountSuspended: its account may do nothing.
        """
        if self.expires and time.time() >= self.expires:
            raise Unauthenticated("this API key has expired")
        if self.suspended:
            raise AccountSuspended(f"the account {self.account} is suspended")


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
