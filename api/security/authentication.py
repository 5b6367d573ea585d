"""Who is calling: `Authorization: Bearer` and a key, or the token of a person who signed in.

Nothing else names the account. Invariant: who is revoked, disabled or suspended is refused within
a second, in every API process, and a stream that is open tells them nothing more.
"""

from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Scope

from accounts.caller import PREFIX, Caller, digest_of
from accounts.directory import SigningIn
from accounts.errors import SessionOver
from api.security.client_ip import check_address
from core.errors import Overloaded, Unauthenticated
from intake.permissions import check_route
from intake.services import Services

NEEDED = "an API key is required: Authorization: Bearer pk_..."
UNKNOWN = "this API key is not known, or no longer"
OVER = "this session is over: sign in again"


class Authentication(NamedTuple):
    """How a caller came in: where its record stands, and which sign-in of a person it was."""

    field: str
    session: int = 0
    family: str = ""


async def authenticate(request: Request) -> Caller:
    """Return who is calling.

    Raises:
        Unauthenticated: nobody, or somebody who is not known (any more).
        Forbidden: the role, the scopes or the address do not allow it.
    """
    services: Services = request.app.state.services
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:
        raise Unauthenticated(NEEDED)
    if credential.startswith(PREFIX):
        entry = Authentication(digest_of(credential))
        found = await services.callers.find(entry.field)
        if found is None:
            raise Unauthenticated(UNKNOWN)
    else:
        found, entry = await _person(request, services, credential)
    if found.networks is not None:
        check_address(request, found, services.settings.api.trusted_proxies)
    _check_access(request.scope, found)
    request.state.account = found.account
    request.state.entry = entry
    return found


async def check_again(services: Services, scope: Scope) -> None:
    """Refuse a caller who was let in, and may not be there any more.

    Raises:
        Unauthenticated: the key, the user or the session has come to its end.
        Forbidden: the account, the role or the scopes do not allow it any more.
    """
    entry: Authentication = scope["state"]["entry"]
    try:
        found = await services.callers.find(entry.field)
    except Overloaded:
        return  # nobody can tell now; it was allowed
    if found is None:
        raise Unauthenticated(UNKNOWN)
    _check_session(found, entry)
    _check_access(scope, found)


def _check_access(scope: Scope, caller: Caller) -> None:
    check_route(scope["method"], scope["route"].path, caller)


def _check_session(found: Caller, entry: Authentication) -> None:
    if entry.family and (found.session != entry.session or entry.family in found.ended):
        raise SessionOver(OVER)


def caller_field(request: Request, caller: Caller) -> str:
    """Return where this caller's record is found again, without any credential."""
    if caller.user == caller.id:
        return caller.id
    return digest_of(request.headers["authorization"].partition(" ")[2].strip())


async def _person(
    request: Request, services: Services, token: str
) -> tuple[Caller, Authentication]:
    """Return who signed in, with a password here or with the identity provider."""
    if token.count(".") != 2:
        raise Unauthenticated(NEEDED)
    signing_in: SigningIn = request.app.state.signing_in
    if signing_in.issuer.issued(token):
        entry = Authentication(await signing_in.issuer.email_of(token))
        found = await services.callers.find(entry.field)
        if found is None:
            raise Unauthenticated("nobody here has the email of this token")
        return found, entry
    claims = signing_in.sessions.tokens.read(token)
    found = await services.callers.find(claims.user)
    if found is not None and found.session < claims.session:
        # Who has just signed in with a new password is ahead of what this process remembers.
        found = await services.callers.find_anew(claims.user)
    if found is None:
        raise SessionOver(OVER)
    entry = Authentication(claims.user, claims.session, claims.family)
    _check_session(found, entry)
    return found, entry
