"""Routes for signing in and out, and for the caller itself."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from accounts.sessions import Session, change_own_password
from api.http.deps import AppServices, CurrentCaller, Signing
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from api.security.client_ip import client_address
from wire.schemas.accounts import Me, OwnPassword, Refresh, SessionAnswer, SignIn
from wire.schemas.validation import check
from wire.views.accounts import caller_view

router = APIRouter(prefix="/v1", tags=["sessions"])

#: Paths of clients that know no version.
alias = APIRouter(tags=["sessions"])

SESSION: Responses = {200: {"model": SessionAnswer}}
#: Caches must not store tokens.
NO_STORE = {"Cache-Control": "no-store"}


@router.post(
    "/auth/login",
    openapi_extra=body_of(SignIn),
    responses={**SESSION, **error_responses(400, 401, 408, 413, 422, 429, 503)},
)
async def sign_in(request: Request, services: AppServices, signing_in: Signing) -> Response:
    """Sign in. Returns a short-lived access token and a refresh token that renews it."""
    parsed = check(SignIn, await read_object(request))
    address = client_address(request, services.settings.api.trusted_proxies)
    return _session(await signing_in.sessions.sign_in(parsed.email, parsed.password, address))


@alias.post(
    "/auth/login",
    openapi_extra=body_of(SignIn),
    responses={**SESSION, **error_responses(400, 401, 408, 413, 422, 429, 503)},
)
async def sign_in_by_alias(
    request: Request, services: AppServices, signing_in: Signing
) -> Response:
    """Sign in, as `POST /v1/auth/login`."""
    return await sign_in(request, services, signing_in)


@router.post(
    "/auth/refresh",
    openapi_extra=body_of(Refresh),
    responses={**SESSION, **error_responses(400, 401, 408, 413, 422, 503)},
)
async def refresh(request: Request, signing_in: Signing) -> Response:
    """Exchange a refresh token for new tokens. Using it a second time ends the session."""
    parsed = check(Refresh, await read_object(request))
    return _session(await signing_in.sessions.refresh(parsed.refresh_token))


@router.post(
    "/auth/logout",
    status_code=204,
    openapi_extra=body_of(Refresh),
    responses=error_responses(400, 408, 413, 422, 503),
)
async def sign_out(request: Request, signing_in: Signing) -> Response:
    """End a session and its access tokens. Repeating it changes nothing."""
    parsed = check(Refresh, await read_object(request))
    await signing_in.sessions.sign_out(parsed.refresh_token)
    return Response(status_code=204)


@router.get("/me", responses={200: {"model": Me}, **error_responses(401, 503)})
async def read_caller(caller: CurrentCaller) -> Response:
    """Return the caller and its permissions."""
    return json_response(caller_view(caller))


@router.post(
    "/me/password",
    status_code=204,
    openapi_extra=body_of(OwnPassword),
    responses=error_responses(400, 401, 403, 408, 413, 422, 429, 503),
)
async def change_password(
    request: Request, caller: CurrentCaller, services: AppServices, signing_in: Signing
) -> Response:
    """Change your own password. All your sessions end, including this one."""
    parsed = check(OwnPassword, await read_object(request))
    await change_own_password(
        services.directory.users,
        signing_in.throttle,
        caller,
        (parsed.current, parsed.password),
        client_address(request, services.settings.api.trusted_proxies),
    )
    return Response(status_code=204)


def _session(session: Session) -> Response:
    content = {
        "access_token": session.access_token,
        "token_type": "Bearer",
        "expires_in": session.seconds,
        "refresh_token": session.refresh_token,
        "refresh_expires_in": session.refresh_seconds,
    }
    return json_response(content, headers=NO_STORE)
