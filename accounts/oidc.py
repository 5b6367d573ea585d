"""Tokens of an identity provider, checked with the keys it publishes.

Invariants: only its own signature, issuer and audience count, with the algorithms that were set,
and only an email that it has verified itself; it is asked at most once per AGAIN_SECONDS, whatever
tokens are shown, and never on the event loop; while it is away or silent, the keys that are known
go on for KEPT_SECONDS, and nobody who brings one waits for it.
"""

import asyncio
import time
from typing import Any

import jwt
import structlog
from jwt import PyJWK, PyJWKClient

from accounts.errors import InvalidAccount, IssuerUnavailable, SessionOver
from accounts.users import checked_email
from core.settings.auth import OidcSettings

log = structlog.get_logger()

#: Keys older than this are read again.
FRESH_SECONDS = 300.0
#: Keys older than this are no longer believed.
KEPT_SECONDS = 86_400.0
AGAIN_SECONDS = 5.0


class Issuer:
    """One identity provider."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._client = (
            PyJWKClient(settings.jwks_url, cache_jwk_set=False, timeout=settings.timeout_seconds)
            if settings.issuer
            else None
        )
        self._keys: dict[str, PyJWK] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    def issued(self, token: str) -> bool:
        """Say whether a token claims to be of this issuer; it proves nothing."""
        if self._client is None:
            return False
        try:
            content = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return False
        return bool(content.get("iss") == self._settings.issuer)

    async def email_of(self, token: str) -> str:
        """Return whose token it is.

        Raises:
            SessionOver: it is not good here, or names nobody.
            IssuerUnavailable: its keys cannot be read, and none are known.
        """
        settings = self._settings
        try:
            key = await self._key_of(str(jwt.get_unverified_header(token).get("kid", "")))
            content: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                options={"require": ["exp", "iss", "aud", settings.email_claim]},
            )
        except jwt.ExpiredSignatureError:
            raise SessionOver("the token of the identity provider has expired") from None
        except jwt.InvalidTokenError:
            raise SessionOver("the token of the identity provider is not valid") from None
        if settings.require_verified and content.get("email_verified") not in (True, "true"):
            raise SessionOver("the identity provider has not verified this email")
        try:
            # Nothing else may reach the copy of callers: it has other fields than emails.
            return checked_email(str(content[settings.email_claim]))
        except InvalidAccount:
            raise SessionOver("the token of the identity provider names no email") from None

    async def _key_of(self, key_id: str) -> PyJWK:
        age = self._age()
        if key_id not in self._keys or age > KEPT_SECONDS:
            await self._wait_for_keys()
        elif age > FRESH_SECONDS:
            self._begin()
        if self._age() > KEPT_SECONDS:
            raise IssuerUnavailable(
                "the identity provider does not answer", retry_after_seconds=AGAIN_SECONDS
            )
        if key_id not in self._keys:
            raise SessionOver("the token is signed with a key that its issuer does not publish")
        return self._keys[key_id]

    def _age(self) -> float:
        return float("inf") if self._read_at is None else time.monotonic() - self._read_at

    async def _wait_for_keys(self) -> None:
        """Wait for what is being read, but no longer than it may take."""
        reading = self._begin()
        if reading is not None:
            await asyncio.wait({reading}, timeout=self._settings.timeout_seconds)

    def _begin(self) -> asyncio.Task[None] | None:
        """Read the keys, unless that was tried a moment ago; returns what is under way."""
        if self._reading is None:
            instant = time.monotonic()
            if self._tried_at is not None and instant - self._tried_at < AGAIN_SECONDS:
                return None
            self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        assert self._client is not None
        try:
            found = await asyncio.to_thread(self._client.get_signing_keys)
        except (jwt.PyJWTError, ValueError, OSError) as error:
            log.warning("issuer_not_read", cause=type(error).__name__)
        else:
            self._keys = {key.key_id: key for key in found if key.key_id}
            self._read_at = time.monotonic()
        finally:
            self._tried_at, self._reading = time.monotonic(), None
