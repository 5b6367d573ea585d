"""What can go wrong with accounts, apart from bugs.

ClientError:     KeyNotFound, UserNotFound, WrongPassword, SessionOver
InvalidJob:      InvalidAccount (`param` names the field)
AccountConflict: EmailTaken, AccountExists, LastAdmin
Overloaded:      TooManySignIns, Busy, IssuerUnavailable (carry retry_after_seconds)
"""

from core.errors import ClientError, InvalidJob, Overloaded, Unauthenticated


class KeyNotFound(ClientError):
    """Unknown key, or another account's: the two look alike."""

    code = "key-not-found"


class UserNotFound(ClientError):
    """Unknown user, or another account's: the two look alike."""

    code = "user-not-found"


class InvalidAccount(InvalidJob):
    """A field of an account, user or key has a value that cannot be; `param` names it."""

    code = "invalid-account"


class WrongPassword(Unauthenticated):
    """No such user, another password, or a user who may not sign in: they look alike."""

    code = "wrong-password"


class SessionOver(Unauthenticated):
    """The token has expired, was taken back, or was never given out: sign in again."""

    code = "session-over"


class AccountConflict(ClientError):
    """What there is already does not allow this."""

    code = "account-conflict"


class EmailTaken(AccountConflict):
    """Another user has this email."""

    code = "email-taken"


class AccountExists(AccountConflict):
    """There is an account with this id."""

    code = "account-exists"


class LastAdmin(AccountConflict):
    """Nobody would be left to administer the account."""

    code = "last-admin"


class TooManySignIns(Overloaded):
    """Too many attempts to sign in as this person, or from this address."""

    code = "too-many-sign-ins"


class Busy(Overloaded):
    """More people sign in at this moment than can be served."""

    code = "sign-in-busy"


class IssuerUnavailable(Overloaded):
    """The identity provider does not tell its keys."""

    code = "issuer-unavailable"
