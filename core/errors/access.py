"""Errors of callers: who they are, and what they may do."""

from typing import ClassVar

from core.errors.base import ClientError


class Unauthenticated(ClientError):
    """There is no key, or the key is unknown."""

    code = "unauthenticated"
    status = 401
    title = "Unauthenticated"
    openai_code: ClassVar[str | None] = "invalid_api_key"


class Forbidden(ClientError):
    """The caller is known but may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"
    openai_code: ClassVar[str | None] = "insufficient_permissions"


class AccountSuspended(Forbidden):
    """The account is suspended until the operator resumes it."""

    code = "account-suspended"
    status = 403
    title = "Account suspended"
    openai_code = "account_suspended"


class ModelForbidden(Forbidden):
    """The key's scopes do not include this model."""

    code = "model-forbidden"
    status = 403
    title = "Model not allowed"
    openai_code = None


class AddressForbidden(Forbidden):
    """The key may not be used from this address."""

    code = "address-forbidden"
    status = 403
    title = "Address not allowed"
    openai_code = None
