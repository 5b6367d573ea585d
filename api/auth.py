"""Who is calling: `Authorization: Bearer` and a key, or the token of a person who signed in.

Nothing else names the account. Invariant: who is revoked, disabled or suspended is refused within
a second, in every API process.
"""

from starlette.requests import Request

from accounts.errors import SessionOver
from accounts.open import SigningIn
from api.access import check_access
from api.address import check_address
from api.services import Services
from jobs.accounts import PREFIX, ApiKey, digest_of
from jobs.errors import Unauthenticated

NEEDED = "an API key is required: Authorization: Bearer pk_..."


async def authenticate(request: Request) -> ApiKey:
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
        found = await services.callers.find(digest_of(credential))
        if found is None:
            raise Unauthenticated("this API key is not known, or no longer")
    else:
        found = await _person(request, services, credential)
    if found.networks is not None:
        check_address(request, found, services.settings.api.trusted_proxies)
    check_access(request.scope, found)
    request.state.account = found.account
    return found


def caller_field(request: Request, caller: ApiKey) -> str:
    """Return where this caller's record is found again, without any credential."""
    if caller.user == caller.id:
        return caller.id
    return digest_of(request.headers["authorization"].partition(" ")[2].strip())


async def _person(request: Request, services: Services, token: str) -> ApiKey:
    """Return who signed in, with a password here or with the identity provider."""
    if token.count(".") != 2:
        raise Unauthenticated(NEEDED)
    signing_in: SigningIn = request.app.state.signing_in
    if signing_in.issuer.issued(token):
        found = await services.callers.find(await signing_in.issuer.email_of(token))
        if found is None:
            raise Unauthenticated("nobody here has the email of this token")
        return found
    claims = signing_in.sessions.tokens.read(token)
    found = await services.callers.find(claims.user)
    if found is not None and found.session < claims.session:
        # Who has just signed in with a new password is ahead of what this process remembers.
        found = await services.callers.find_anew(claims.user)
    if found is None or found.session != claims.session or claims.family in found.ended:
        raise SessionOver("this session is over: sign in again")
    return found
