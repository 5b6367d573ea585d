"""Routes for API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.api_keys import MadeKey, NewKey
from accounts.caller import Limits
from accounts.key_permissions import check_account, check_grant, managed_keys, rank_of
from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from api.routes.jobs import Limit
from wire.schemas.accounts import KeyAnswer, KeyFields, NewKeyRequest, Rotation
from wire.schemas.validation import check
from wire.views.accounts import key_view
from wire.views.page import list_page

router = APIRouter(prefix="/v1/keys", tags=["keys"])

KEY: Responses = {200: {"model": KeyAnswer}}
CREATED: Responses = {
    201: {"model": KeyAnswer, "description": "with the secret `key`, which is not shown again"}
}
#: Caches must not store the secret.
NO_STORE = {"Cache-Control": "no-store"}

Prefix = Annotated[
    str, Query(pattern=r"^pk_[A-Za-z0-9_-]{0,8}$", description="first characters of the key")
]


@router.get("", responses=error_responses(400, 401, 422, 503))
async def list_keys(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    prefix: Prefix | None = None,
) -> Response:
    """List keys, newest first, including revoked ones, without secrets."""
    before = None if after is None else check_list_cursor(after, "key")
    found = await services.directory.keys.list(
        managed_keys(caller), prefix=prefix or "", before=before, limit=limit + 1
    )
    return json_response(list_page(found, limit, key_view))


@router.post(
    "",
    status_code=201,
    openapi_extra=body_of(NewKeyRequest),
    responses={**CREATED, **error_responses(400, 401, 404, 408, 413, 422, 503)},
)
async def create_key(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Create a key. The secret is shown only in this response. The key is valid immediately."""
    parsed = check(NewKeyRequest, await read_object(request))
    managed = managed_keys(caller)
    check_grant(caller, parsed.role, parsed.model_fields_set)
    account = check_account(caller, parsed.account)
    new = NewKey(
        account=account,
        name=parsed.name,
        role=parsed.role,
        user=managed.user or (caller.user if caller.user and account == caller.account else None),
        models=parsed.models,
        routes=parsed.routes,
        networks=parsed.networks,
        weight=parsed.weight,
        limits=Limits(**parsed.limits.model_dump(exclude_none=True)),
        expires_at=_datetime(parsed.expires_at),
        rank=rank_of(caller),
    )
    return _created(await services.directory.keys.create(caller.id, new))


@router.get("/{key_id}", responses={**KEY, **error_responses(401, 404, 503)})
async def read_key(key_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a key, without its secret."""
    return json_response(key_view(await services.directory.keys.get(key_id, managed_keys(caller))))


@router.patch(
    "/{key_id}",
    openapi_extra=body_of(KeyFields),
    responses={**KEY, **error_responses(400, 401, 404, 408, 413, 422, 503)},
)
async def change_key(
    request: Request, key_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Change a key. Omitted fields stay unchanged. Effective within a second.

    Bounds that an admin set are changed by an admin; a rotated key can only end earlier.
    """
    parsed = check(KeyFields, await read_object(request))
    managed = managed_keys(caller)
    check_grant(caller, parsed.role, parsed.model_fields_set)
    row = await services.directory.keys.change(
        caller.id, key_id, managed, _changes(parsed), rank_of(caller)
    )
    return json_response(key_view(row))


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    openapi_extra=body_of(Rotation),
    responses={**CREATED, **error_responses(400, 401, 404, 408, 413, 422, 503)},
)
async def rotate_key(
    request: Request, key_id: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create a key with the same settings. The old one expires after `overlap_seconds`."""
    parsed = check(Rotation, await read_object(request))
    overlap = timedelta(seconds=parsed.overlap_seconds)
    return _created(
        await services.directory.keys.rotate(caller.id, key_id, managed_keys(caller), overlap)
    )


@router.delete("/{key_id}", status_code=204, responses=error_responses(401, 404, 503))
async def revoke_key(key_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Revoke a key. It is rejected within a second. Repeating it changes nothing."""
    await services.directory.keys.revoke(caller.id, key_id, managed_keys(caller))
    return Response(status_code=204)


def _changes(parsed: KeyFields) -> dict[str, Any]:
    """Return the columns that a body sets."""
    names = parsed.model_fields_set & {"name", "models", "routes", "networks", "weight"}
    values = {name: getattr(parsed, name) for name in names}
    if "role" in parsed.model_fields_set:
        values["role"] = parsed.role.value
    if "expires_at" in parsed.model_fields_set:
        values["expires_at"] = _datetime(parsed.expires_at)
    return values | parsed.limits.model_dump(exclude_none=True)


def _datetime(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _created(created: MadeKey) -> Response:
    return json_response({**key_view(created.row), "key": created.secret}, 201, NO_STORE)
