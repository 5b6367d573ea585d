"""Routes for the users of an account."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.bounds import SCOPES
from accounts.caller import Caller
from accounts.users import UserUpdate
from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from api.routes.jobs import Limit
from core.errors import Forbidden
from wire.schemas.accounts import NewPassword, NewUser, UserAnswer, UserUpdateRequest
from wire.schemas.validation import check
from wire.views.accounts import user_view
from wire.views.page import list_page

router = APIRouter(prefix="/v1/users", tags=["users"])

USER: Responses = {200: {"model": UserAnswer}}


@router.get("", responses=error_responses(400, 401, 422, 503))
async def list_users(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
) -> Response:
    """List the users of this account, newest first; the operator sees all accounts."""
    before = None if after is None else check_list_cursor(after, "user")
    found = await services.directory.users.list(_account(caller), before=before, limit=limit + 1)
    return json_response(list_page(found, limit, user_view))


@router.post(
    "",
    status_code=201,
    openapi_extra=body_of(NewUser),
    responses={
        201: {"model": UserAnswer},
        **error_responses(400, 401, 404, 408, 409, 413, 422, 503),
    },
)
async def create_user(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Create a user. Without a password, the user signs in through the identity provider."""
    parsed = check(NewUser, await read_object(request))
    if parsed.account not in (None, caller.account) and not caller.operator:
        raise Forbidden("Only the operator creates users for other accounts", param="account")
    created = await services.directory.users.create(
        caller.id, parsed.account or caller.account, parsed.email, parsed.role, parsed.password
    )
    return json_response(user_view(created), 201)


@router.get("/{user_id}", responses={**USER, **error_responses(401, 404, 503)})
async def read_user(user_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a user."""
    return json_response(user_view(await services.directory.users.get(user_id, _account(caller))))


@router.patch(
    "/{user_id}",
    openapi_extra=body_of(UserUpdateRequest),
    responses={**USER, **error_responses(400, 401, 404, 408, 409, 413, 422, 503)},
)
async def change_user(
    request: Request, user_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Change a user's role or bounds, or disable the user with all keys and sessions immediately.

    Bounds cover the user's sessions and all keys of the user, also those that the user makes later.
    """
    parsed = check(UserUpdateRequest, await read_object(request))
    names = parsed.model_fields_set.intersection(SCOPES)
    bounds = {name: getattr(parsed, name) for name in names}
    bounds |= parsed.limits.model_dump(exclude_none=True)
    change = UserUpdate(parsed.role, parsed.disabled, bounds)
    row = await services.directory.users.change(caller.id, user_id, _account(caller), change)
    return json_response(user_view(row))


@router.post(
    "/{user_id}/password",
    status_code=204,
    openapi_extra=body_of(NewPassword),
    responses=error_responses(400, 401, 404, 408, 413, 422, 503),
)
async def set_password(
    request: Request, user_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Set a user's password. All sessions of the user end."""
    parsed = check(NewPassword, await read_object(request))
    await services.directory.users.set_password(
        caller.id, user_id, _account(caller), parsed.password
    )
    return Response(status_code=204)


def _account(caller: Caller) -> str | None:
    return None if caller.operator else caller.account
