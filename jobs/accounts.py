"""API keys and the accounts they belong to, from a file of hashes.

Invariant: a key is shown once, when it is made; only its SHA-256 is stored (keys are 256 random
bits, so a slow hash would add nothing). The account and its limits come from the key alone.
"""

import hashlib
import os
import secrets
import time
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs.errors import Unauthenticated

PREFIX = "pk_"

#: A revoked key is refused after at most this long.
LOOK_SECONDS = 0.5


class Role(StrEnum):
    """What a caller may do within its account; `api.access` says which routes that is."""

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


class ApiKey(BaseModel):
    """One key's record; `admin` is the operator of the installation, above all roles.

    `weight` is the fair share, `max_running` 0 means no cap, `models` None means every model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    sha256: str
    account: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    name: str = ""
    weight: float = Field(default=1.0, gt=0, le=1000)
    max_running: int = Field(default=0, ge=0)
    admin: bool = False
    created: int = 0
    role: Role = Role.MEMBER
    models: frozenset[str] | None = None
    limits: Limits = NO_LIMITS
    account_limits: Limits = NO_LIMITS


_records = TypeAdapter(list[ApiKey])


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyFile:
    """The keys in one JSON file; a change is seen within LOOK_SECONDS, a new key at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._by_digest: dict[str, ApiKey] = {}
        self._looked_at = 0.0

    def find(self, key: str) -> ApiKey:
        """Return the record of a key.

        Raises:
            Unauthenticated: unknown key.
        """
        digest = _digest(key)
        if time.monotonic() - self._looked_at > LOOK_SECONDS or digest not in self._by_digest:
            self._refresh()
        record = self._by_digest.get(digest)
        if record is None:
            raise Unauthenticated("this API key is not known")
        return record

    def create(
        self,
        account: str,
        name: str = "",
        *,
        weight: float = 1.0,
        max_running: int = 0,
        admin: bool = False,
        role: Role = Role.MEMBER,
        models: frozenset[str] | None = None,
        limits: Limits = NO_LIMITS,
        account_limits: Limits = NO_LIMITS,
    ) -> tuple[str, ApiKey]:
        """Make a key; returns the secret, which is not kept, and its record."""
        key = PREFIX + secrets.token_urlsafe(32)
        record = ApiKey(
            id="key_" + secrets.token_hex(6),
            sha256=_digest(key),
            account=account,
            name=name,
            weight=weight,
            max_running=max_running,
            admin=admin,
            created=int(time.time()),
            role=role,
            models=models,
            limits=limits,
            account_limits=account_limits,
        )
        self._refresh()
        self._write([*self._by_digest.values(), record])
        return key, record

    def _refresh(self) -> None:
        self._looked_at = time.monotonic()
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._by_digest, self._stamp = {}, None
            return
        stamp = (stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            records = _records.validate_json(self._path.read_bytes())
            self._by_digest = {record.sha256: record for record in records}
            self._stamp = stamp

    def _write(self, records: list[ApiKey]) -> None:
        """Write aside, then rename, so that a reader never sees half a file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".tmp")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_records.dump_json(records, indent=2))
        aside.replace(self._path)
