"""Access tokens: short-lived JWTs that name a user and a session.

Invariant: a token is good only if this installation signed it, for this use, and it has not
expired; whether its user and session still count is asked of the user's record on each request.
"""

import secrets
import time
from typing import Any, NamedTuple

import jwt

from accounts.errors import SessionOver
from core.settings.auth import AuthSettings

ALGORITHM = "HS256"
ISSUER = "penstock"
AUDIENCE = "penstock-api"
NEEDED = ["exp", "iat", "iss", "aud", "sub", "sid", "ver"]


class MissingSecretError(ValueError):
    """Nothing to sign with; there is no default."""

    def __init__(self) -> None:
        super().__init__(
            "PENSTOCK_AUTH__JWT_SECRET: 32 or more secret characters are needed, the same for every"
            " API process; for instance: openssl rand -hex 32"
        )


class Claims(NamedTuple):
    """Whose token it is: user, sign-in, and the user's session number at that time."""

    user: str
    family: str
    session: int


class AccessTokens:
    """Signs and reads access tokens."""

    def __init__(self, settings: AuthSettings) -> None:
        if settings.jwt_secret is None:
            raise MissingSecretError
        self._secret = settings.jwt_secret.get_secret_value()
        self.seconds = settings.access_seconds

    def issue(self, claims: Claims) -> str:
        """Return a token."""
        instant = int(time.time())
        content = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": instant,
            "exp": instant + self.seconds,
            "jti": secrets.token_hex(8),
            "sub": claims.user,
            "sid": claims.family,
            "ver": claims.session,
        }
        return jwt.encode(content, self._secret, ALGORITHM)

    def read(self, token: str) -> Claims:
        """Return whose token it is.

        Raises:
            SessionOver: it is no token of ours, or has expired.
        """
        try:
            content: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": NEEDED},
            )
        except jwt.ExpiredSignatureError:
            raise SessionOver("the access token has expired: refresh it") from None
        except jwt.InvalidTokenError:
            raise SessionOver("this access token is not valid") from None
        return Claims(str(content["sub"]), str(content["sid"]), int(content["ver"]))
