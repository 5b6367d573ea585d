"""Authenticates callers by `Authorization: Bearer`, or `X-API-Key`.

The credential is an API key or a user's access token, and the account follows from it alone.
Invariant: a revoked key, disabled user or suspended account is rejected within a second in every
API process, also on streams that are already open.
"""

from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Scope

from accounts.caller import PREFIX, Caller, digest_of
from accounts.directory_factory import SigningIn
from accounts.errors import SessionOver
from api.security.client_ip import check_address, client_address
from core.errors import Overloaded, Unauthenticated
from intake.permissions import check_route, open_to_suspended
from intake.services import Services

REQUIRED = "An API key is required: Authorization: Bearer pk_..., or X-API-Key: pk_..."
UNKNOWN = "This API key is not valid: it is unknown, expired or revoked"
NO_KEY = f"This API key is not valid: keys begin with {PREFIX}"
EXPIRED = "This session has ended: sign in again"


class Authentication(NamedTuple):
    """How a caller authenticated.

    Attributes:
        field: Key of the caller's record in the caller cache.
        session: Number of the user's session generation; 0 for API keys.
        family: Id of the sign-in whose token was used; empty for API keys.
    """

    field: str
    session: int = 0
    family: str = ""


async def authenticate(request: Request) -> Caller:
    """Identify the caller of a request and check its permission for the route.

    Raises:
        Unauthenticated: No credential, or one that is unknown, expired or revoked.
        Forbidden: The role, the scopes or the IP address do not allow the route.
        AccountSuspended: The account is suspended.
    """
    services: Services = request.app.state.services
    credential = _credential(request)
    if credential.startswith(PREFIX):
        entry = Authentication(digest_of(credential))
        found = await services.callers.find(
            entry.field, though_suspended=_open_to_suspended(request.scope)
        )
        if found is None:
            raise Unauthenticated(UNKNOWN)
    else:
        found, entry = await _user_of(request, services, credential)
    request.state.caller = found  # also of a request that is refused below: its log names it
    if found.networks is not None:
        check_address(request, found, services.settings.api.trusted_proxies)
    _check_access(request.scope, found)
    request.state.limited_address = (
        client_address(request, services.settings.api.trusted_proxies)
        if services.rate_rules.per_address
        else ""
    )
    request.state.account = found.account
    request.state.entry = entry
    return found


def _credential(request: Request) -> str:
    """Return the bearer token, or the key that Anthropic's clients send as `X-API-Key`."""
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    credential = credential.strip()
    if scheme.lower() == "bearer" and credential:
        return credential
    if key := request.headers.get("x-api-key", "").strip():
        return key
    raise Unauthenticated(REQUIRED)


async def check_again(services: Services, scope: Scope) -> None:
    """Check again that the caller of an open stream may continue.

    If the caller cache is unavailable, the earlier permission remains valid.

    Raises:
        Unauthenticated: The key, the user or the session has ended.
        Forbidden: The account, the role or the scopes no longer allow the route.
    """
    entry: Authentication = scope["state"]["entry"]
    try:
        found = await services.callers.find(entry.field, though_suspended=_open_to_suspended(scope))
    except Overloaded:
        return  # cannot be checked now; it was allowed before
    if found is None:
        raise Unauthenticated(UNKNOWN)
    _check_session(found, entry)
    _check_access(scope, found)


def _check_access(scope: Scope, caller: Caller) -> None:
    check_route(scope["method"], scope["route"].path, caller)


def _open_to_suspended(scope: Scope) -> bool:
    return open_to_suspended(scope["method"], scope["route"].path)


def _check_session(found: Caller, entry: Authentication) -> None:
    if entry.family and (found.session != entry.session or entry.family in found.ended):
        raise SessionOver(EXPIRED)


def caller_field(request: Request, caller: Caller) -> str:
    """Return the key of the caller's record in the caller cache; it is not a credential."""
    if caller.user == caller.id:
        return caller.id
    return digest_of(_credential(request))


async def _user_of(
    request: Request, services: Services, token: str
) -> tuple[Caller, Authentication]:
    """Identify a user by an access token of ours or of the identity provider."""
    if token.count(".") != 2:
        raise Unauthenticated(NO_KEY)
    signing_in: SigningIn = request.app.state.signing_in
    suspended = _open_to_suspended(request.scope)
    if signing_in.issuer.issued(token):
        entry = Authentication(await signing_in.issuer.email_of(token))
        found = await services.callers.find(entry.field, though_suspended=suspended)
        if found is None:
            raise Unauthenticated("No user has the email address of this token")
        return found, entry
    claims = signing_in.sessions.tokens.read(token)
    found = await services.callers.find(claims.user, though_suspended=suspended)
    if found is not None and found.session < claims.session:
        # After a change of password, the token can be newer than the cached record.
        found = await services.callers.reload(claims.user, though_suspended=suspended)
    if found is None:
        raise SessionOver(EXPIRED)
    entry = Authentication(claims.user, claims.session, claims.family)
    _check_session(found, entry)
    return found, entry
