"""Batches: create, list, look, cancel."""

import hashlib
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.cursor import check_list_cursor
from api.deps import AppServices, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import body_of, refusals
from api.request_body import read_object
from api.security.authentication import caller_field
from batches import repository
from core.db.tables.base import now
from core.errors import IdempotencyMismatch, InvalidJob
from core.ids import new_id
from files.repository import find_file
from intake.preferences import read_preferences
from intake.services import Services
from wire.schemas.batches import BatchRequest, window_length
from wire.schemas.validation import check
from wire.views.batches import batch_object
from wire.views.page import list_page

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post(
    "",
    openapi_extra=body_of(BatchRequest),
    responses=refusals(400, 401, 403, 404, 413, 422, 429, 503),
)
async def create_batch(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Accept a batch; its file is validated next, line by line, and then run."""
    parsed = check(BatchRequest, await read_object(request))
    if (repeated := await _repeated(request, caller, services, parsed)) is not None:
        return repeated
    file = await find_file(services.database, parsed.input_file_id, caller.account)
    if file.purpose != "batch":
        text = f"input_file_id: a file with purpose batch is expected, not {file.purpose}"
        raise InvalidJob(text, param="input_file_id")
    batch_id, replayed = await _first(request, caller, services, parsed)
    created = now()
    ends = created + window_length(parsed.completion_window)
    own = parsed.output_expires_after
    values = repository.new_batch(
        batch_id,
        caller.account,
        caller_field(request, caller),
        parsed.endpoint,
        file.id,
        (parsed.completion_window, ends),
        parsed.metadata,
        None if own is None else own.seconds,
        created,
    )
    if not (replayed and await repository.exists(services.database, batch_id)):
        await repository.add_batch(
            services.database, values, services.settings.batches.max_open_per_account
        )
    return await _made(caller, services, batch_id, replayed=replayed)


async def _made(caller: Caller, services: Services, batch_id: str, *, replayed: bool) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    row = await repository.find_batch(services.database, batch_id, caller.account)
    return json_response(batch_object(row), headers=headers)


async def _repeated(
    request: Request, caller: Caller, services: Services, parsed: BatchRequest
) -> Response | None:
    """Answer what was accepted before, whatever has become of its file since."""
    given = read_preferences(request.headers, 0).idempotency_key
    kept = await services.store.batch_keys.known(caller.account, given) if given else None
    if kept is None:
        return None
    batch_id = _same(kept, parsed)
    if not await repository.exists(services.database, batch_id):
        return None
    return await _made(caller, services, batch_id, replayed=True)


async def _first(
    request: Request, caller: Caller, services: Services, parsed: BatchRequest
) -> tuple[str, bool]:
    """Return the id of the batch that is asked for, and whether it was asked for before.

    An id that was given out before its batch was there is given out again.
    """
    given = read_preferences(request.headers, 0).idempotency_key
    batch_id = new_id("batch")
    if not given:
        return batch_id, False
    kept = await services.store.batch_keys.first(
        caller.account, given, f"{_digest(parsed)} {batch_id}"
    )
    first = _same(kept, parsed)
    return first, first != batch_id


def _digest(parsed: BatchRequest) -> str:
    body = orjson.dumps(parsed.model_dump(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()


def _same(kept: str, parsed: BatchRequest) -> str:
    """Return the batch that a key was first used for, if it was the same request.

    Raises:
        IdempotencyMismatch: it was another.
    """
    known, _, first = kept.partition(" ")
    if known != _digest(parsed):
        text = "this Idempotency-Key was used before with another request"
        raise IdempotencyMismatch(text, param="Idempotency-Key")
    return first


@router.get("", responses=refusals(400, 401, 403, 503))
async def list_batches(
    caller: CurrentCaller,
    services: AppServices,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="`last_id` of an earlier page")] = None,
) -> Response:
    """List this account's batches, newest first."""
    before = None if after is None else check_list_cursor(after, "batch")
    found = await repository.list_batches(
        services.database, caller.account, limit=limit + 1, after=before
    )
    return json_response(list_page(found, limit, batch_object))


@router.get("/{batch_id}", responses=refusals(401, 403, 404, 503))
async def read_batch(batch_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a batch with its progress."""
    return json_response(
        batch_object(await repository.find_batch(services.database, batch_id, caller.account))
    )


@router.post("/{batch_id}/cancel", responses=refusals(401, 403, 404, 409, 503))
async def cancel_batch(batch_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Stop a batch; what is done by then is in its output file. Repeating it changes nothing."""
    return json_response(
        batch_object(await repository.ask_to_cancel(services.database, batch_id, caller.account))
    )
