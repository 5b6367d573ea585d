"""Settings of sign-in, and of the copy of keys and users in Redis."""

from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, model_validator

from core.settings.base import SettingsGroup
from core.settings.urls import WebUrl


class OidcSettings(SettingsGroup):
    """An OpenID Connect provider whose tokens replace a password; off without an issuer."""

    issuer: str = Field(
        default="", description="Issuer whose tokens are accepted. Empty: no OpenID Connect."
    )
    audience: str = Field(default="", description="Audience that a token must have (`aud`).")
    jwks_url: WebUrl = Field(default="", description="URL of the issuer's public keys (JWKS).")
    email_claim: str = Field(
        default="email", description="Claim that contains the user's email address."
    )
    require_verified: bool = Field(
        default=True,
        description="Require the claim `email_verified`. Set it to false only if users cannot"
        " choose their own email address at the issuer.",
    )
    algorithms: list[Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]] = (
        Field(
            default=["RS256", "ES256"],
            min_length=1,
            description="Signature algorithms that are accepted.",
        )
    )
    timeout_seconds: float = Field(
        default=5.0, gt=0, description="Seconds to wait for the issuer's answer."
    )

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if self.issuer and not (self.audience and self.jwks_url):
            raise ValueError("auth.oidc.issuer needs auth.oidc.audience and auth.oidc.jwks_url")
        return self


class AuthSettings(SettingsGroup):
    """How users sign in, and how often Redis's copy of keys and users is compared with SQL."""

    jwt_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Secret that signs session tokens: at least 32 characters, the same for every"
        " API process. Required, except by `penstock up`, which makes its own.",
    )
    access_seconds: int = Field(
        default=900, ge=10, le=86_400, description="Seconds that an access token is valid."
    )
    refresh_seconds: int = Field(
        default=2_592_000,
        ge=60,
        description="Seconds without activity after which a user must sign in again.",
    )
    attempts: int = Field(
        default=10,
        ge=1,
        description="Maximum number of attempts to sign in as one user, within"
        " `auth.attempts_window_seconds`.",
    )
    attempts_per_address: int = Field(
        default=100,
        ge=1,
        description="Maximum number of attempts to sign in from one IP address in that time.",
    )
    attempts_window_seconds: float = Field(
        default=300.0,
        gt=0,
        validation_alias=AliasChoices("attempts_window_seconds", "attempts_seconds"),
        description="Length in seconds of the window in which attempts are counted.",
    )
    known_places: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Places kept for each user: the IP addresses (IPv6: per /64) of the last"
        " successful sign-ins, hashed. There, attempts that others make elsewhere do not count.",
    )
    known_place_days: int = Field(
        default=90, ge=1, le=3650, description="Days after its last use that a place is known."
    )
    sync_seconds: float = Field(
        default=2.0,
        gt=0,
        description="Seconds between two comparisons of keys and users in Redis with SQL.",
    )
    oidc: OidcSettings = OidcSettings()
