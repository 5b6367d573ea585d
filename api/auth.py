"""Who is calling: `Authorization: Bearer pk_...`, and nothing else, names the account."""

from starlette.requests import Request

from api.access import check_access
from api.services import Services
from jobs.accounts import ApiKey
from jobs.errors import Unauthenticated


async def authenticate(request: Request) -> ApiKey:
    """Return the caller's key.

    Raises:
        Unauthenticated: no key, or an unknown one.
        Forbidden: its role may not call this route.
    """
    services: Services = request.app.state.services
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("an API key is required: Authorization: Bearer pk_...")
    found = services.keys.find(key.strip())
    check_access(request.scope, found)
    request.state.account = found.account
    return found
