"""Creates batches, once per idempotency key.

Invariant: repeating a request with the same key returns the same batch, even if its input file
has been deleted since, or if the process died between storing the key and storing the batch.
"""

import hashlib
from typing import NamedTuple

import orjson

from batches import repository
from core.db.tables.base import now
from core.errors import IdempotencyMismatch, InvalidJob
from core.ids import new_id
from files.repository import find_file
from intake.services import Services
from wire.schemas.batches import BatchRequest, window_length


class BatchOwner(NamedTuple):
    """Who creates a batch.

    Attributes:
        account: The account that pays.
        caller_field: Key of the caller's record in the caller cache; the batch's jobs are
            submitted with this caller's permissions.
    """

    account: str
    caller_field: str


class CreatedBatch(NamedTuple):
    """Id of a batch; `replayed` when an earlier request with the same key created it."""

    batch_id: str
    replayed: bool


async def create_batch(
    services: Services, owner: BatchOwner, request: BatchRequest, idempotency_key: str | None
) -> CreatedBatch:
    """Store a new batch, which is validated and run in the background.

    Args:
        services: The process's services.
        owner: Account and caller of the batch.
        request: The validated request body.
        idempotency_key: The client's Idempotency-Key.

    Raises:
        FileMissing: The input file does not exist.
        InvalidJob: The input file has another purpose.
        IdempotencyMismatch: The key was used before with another request.
        TooManyBatches: The account has reached its limit of open batches.
    """
    if (earlier := await _earlier(services, owner, request, idempotency_key)) is not None:
        return CreatedBatch(earlier, replayed=True)
    file = await find_file(services.database, request.input_file_id, owner.account)
    if file.purpose != "batch":
        text = f"input_file_id: expected a file with purpose batch, not {file.purpose}"
        raise InvalidJob(text, param="input_file_id")
    batch_id, replayed = await _reserve_id(services, owner, request, idempotency_key)
    if not (replayed and await repository.batch_exists(services.database, batch_id)):
        await _store(services, owner, request, batch_id, file.id)
    return CreatedBatch(batch_id, replayed)


async def _store(
    services: Services, owner: BatchOwner, request: BatchRequest, batch_id: str, file_id: str
) -> None:
    created, expiry = now(), request.output_expires_after
    values = repository.new_batch(
        batch_id,
        owner.account,
        owner.caller_field,
        request.endpoint,
        file_id,
        (request.completion_window, created + window_length(request.completion_window)),
        request.metadata,
        None if expiry is None else expiry.seconds,
        created,
    )
    limit = services.settings.batches.max_open_per_account
    await repository.add_batch(services.database, values, limit)


async def _earlier(
    services: Services, owner: BatchOwner, request: BatchRequest, key: str | None
) -> str | None:
    """Return the batch that an earlier request with this key created."""
    stored = await services.store.batch_keys.known(owner.account, key) if key else None
    if stored is None:
        return None
    batch_id = _matching_id(stored, request)
    return batch_id if await repository.batch_exists(services.database, batch_id) else None


async def _reserve_id(
    services: Services, owner: BatchOwner, request: BatchRequest, key: str | None
) -> tuple[str, bool]:
    """Return the id for this request, and whether an earlier request reserved it.

    If the earlier request failed before its batch was stored, its id is used again.
    """
    batch_id = new_id("batch")
    if not key:
        return batch_id, False
    entry = f"{_digest(request)} {batch_id}"
    stored = await services.store.batch_keys.first(owner.account, key, entry)
    first = _matching_id(stored, request)
    return first, first != batch_id


def _digest(request: BatchRequest) -> str:
    body = orjson.dumps(request.model_dump(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()


def _matching_id(stored: str, request: BatchRequest) -> str:
    """Return the batch id stored with a key, if the request is the same.

    Raises:
        IdempotencyMismatch: The key was used with another request.
    """
    digest, _, batch_id = stored.partition(" ")
    if digest != _digest(request):
        text = "This Idempotency-Key was used before with another request"
        raise IdempotencyMismatch(text, param="Idempotency-Key")
    return batch_id
