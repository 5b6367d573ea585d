"""Routes for accounts and the audit log."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.errors import AccountNotFound
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from api.routes.jobs import Limit
from core.db.audit import read_audit_log
from core.db.tables.base import now
from intake.operations import account_deletion
from wire.errors import InvalidCursor
from wire.schemas.accounts import (
    AccountAnswer,
    AccountChange,
    AccountFields,
    DeletedAccountAnswer,
    NewAccount,
)
from wire.schemas.validation import check
from wire.views.accounts import account_view, audit_view
from wire.views.page import list_page

router = APIRouter(prefix="/v1", tags=["accounts"])

ACCOUNT: Responses = {200: {"model": AccountAnswer}}
PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"


@router.get("/account", responses={**ACCOUNT, **error_responses(401, 404, 503)})
async def read_own(caller: CurrentCaller, services: AppServices) -> Response:
    """Return the caller's account."""
    return json_response(account_view(await services.directory.accounts.get(caller.account)))


@router.patch(
    "/account",
    openapi_extra=body_of(AccountFields),
    responses={**ACCOUNT, **error_responses(400, 401, 404, 408, 413, 422, 503)},
)
async def change_own(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Change the account's name and the details on its invoices."""
    parsed = check(AccountFields, await read_object(request))
    row = await services.directory.accounts.change(caller.id, caller.account, _changes(parsed))
    return json_response(account_view(row))


@router.get("/accounts", responses=error_responses(400, 401, 422, 503))
async def list_accounts(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str, Query(pattern=PATTERN, description="`last_id` of the previous page")]
    | None = None,
) -> Response:
    """List all accounts by id. Operator only."""
    del caller
    found = await services.directory.accounts.list(after=after or "", limit=limit + 1)
    return json_response(list_page(found, limit, account_view))


@router.post(
    "/accounts",
    status_code=201,
    openapi_extra=body_of(NewAccount),
    responses={201: {"model": AccountAnswer}, **error_responses(400, 401, 408, 409, 413, 422, 503)},
)
async def create_account(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create an account. Operator only."""
    parsed = check(NewAccount, await read_object(request))
    values = parsed.model_dump(exclude={"id", "limits"})
    limits = parsed.limits.model_dump(exclude_none=True)
    row = await services.directory.accounts.create(caller.id, parsed.id, values | limits)
    return json_response(account_view(row), 201)


@router.get("/accounts/{account}", responses={**ACCOUNT, **error_responses(401, 404, 503)})
async def read_account(account: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return any account. Operator only."""
    del caller
    return json_response(account_view(await services.directory.accounts.get(account)))


@router.patch(
    "/accounts/{account}",
    openapi_extra=body_of(AccountChange),
    responses={**ACCOUNT, **error_responses(400, 401, 404, 408, 413, 422, 503)},
)
async def change_account(
    request: Request, account: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Change an account or its limits, or suspend it immediately. Operator only."""
    parsed = check(AccountChange, await read_object(request))
    values = _changes(parsed) | parsed.limits.model_dump(exclude_none=True)
    if "suspended" in parsed.model_fields_set:
        values["suspended_at"] = now() if parsed.suspended else None
    row = await services.directory.accounts.change(caller.id, account, values)
    return json_response(account_view(row))


@router.delete(
    "/accounts/{account}",
    responses={
        200: {"model": DeletedAccountAnswer},
        **error_responses(401, 404, 409, 422, 503),
    },
)
async def delete_account(
    account: str,
    caller: CurrentCaller,
    services: AppServices,
    force: Annotated[
        bool, Query(description="cancel open jobs; unbilled usage goes to the next invoice")
    ] = False,
) -> Response:
    """Delete an account with its keys, users, jobs, files and webhooks. Operator only."""
    done = await account_deletion.delete_account(services, caller, account, force=force)
    return json_response(
        {
            "object": "account.deleted",
            "id": account,
            "complete": done.complete,
            "removed": done.removed,
        }
    )


@router.get("/audit", responses=error_responses(400, 401, 404, 422, 503))
async def read_audit(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    account: Annotated[str, Query(pattern=PATTERN, description="operator only")] | None = None,
) -> Response:
    """List this account's audit entries, newest first; the operator sees all accounts."""
    if account not in (None, caller.account) and not caller.operator:
        raise AccountNotFound(f"Account {account!r} not found", param="account")
    account_id = account if caller.operator else caller.account
    found = await read_audit_log(
        services.database, account_id, before=_serial(after), limit=limit + 1
    )
    return json_response(list_page(found, limit, audit_view))


def _changes(parsed: AccountFields) -> dict[str, Any]:
    """Return the columns that a body sets."""
    return {
        name: getattr(parsed, name)
        for name in AccountFields.model_fields
        if name in parsed.model_fields_set
    }


def _serial(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidCursor("after: expected the `last_id` of an earlier page", param="after")
    return int(cursor)
