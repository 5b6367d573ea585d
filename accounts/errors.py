"""Errors of accounts, users, keys and sign-ins.

ClientError:     AccountNotFound, KeyNotFound, UserNotFound
Unauthenticated: WrongPassword, SessionOver
InvalidJob:      InvalidAccount (`param` names the field)
AccountConflict: EmailTaken, AccountExists, LastAdmin
Overloaded:      TooManySignIns, Busy, IssuerUnavailable (carry retry_after_seconds)
"""

from core.errors import ClientError, InvalidJob, Overloaded, Unauthenticated


class AccountNotFound(ClientError):
    """There is no account with this id."""

    code = "account-not-found"
    status = 404
    title = "Account not found"


class KeyNotFound(ClientError):
    """The key is unknown or belongs to another account: the two look alike."""

    code = "key-not-found"
    status = 404
    title = "Key not found"


class UserNotFound(ClientError):
    """The user is unknown or belongs to another account: the two look alike."""

    code = "user-not-found"
    status = 404
    title = "User not found"


class InvalidAccount(InvalidJob):
    """A field of an account, user or key has an invalid value; `param` names it."""

    code = "invalid-account"
    status = 422
    title = "Invalid account, user or key"
    openai_status = None


class WrongPassword(Unauthenticated):
    """No such user, a wrong password, or a user who may not sign in: they look alike."""

    code = "wrong-password"
    status = 401
    title = "Wrong email or password"
    openai_code = None


class SessionOver(Unauthenticated):
    """The token has expired, was revoked, or was never issued: sign in again."""

    code = "session-over"
    status = 401
    title = "Session ended"


class AccountConflict(ClientError):
    """The change conflicts with existing data."""

    code = "account-conflict"
    status = 409
    title = "Conflict with existing data"


class EmailTaken(AccountConflict):
    """Another user has this email."""

    code = "email-taken"
    status = 409
    title = "Email taken"


class AccountExists(AccountConflict):
    """An account with this id exists."""

    code = "account-exists"
    status = 409
    title = "Account exists"


class AccountInUse(AccountConflict):
    """The account is not deleted, because it has open jobs or usage that is not billed yet."""

    code = "account-in-use"
    status = 409
    title = "Account in use"


class LastAdmin(AccountConflict):
    """The account would be left without an admin."""

    code = "last-admin"
    status = 409
    title = "Last admin"


class TooManySignIns(Overloaded):
    """Too many attempts to sign in as this person or from this address."""

    code = "too-many-sign-ins"
    status = 429
    title = "Too many sign-ins"


class Busy(Overloaded):
    """More people sign in at this moment than can be served."""

    code = "sign-in-busy"
    status = 503
    title = "Sign-in busy"


class IssuerUnavailable(Overloaded):
    """The identity provider does not return its keys."""

    code = "issuer-unavailable"
    status = 503
    title = "Identity provider unavailable"
