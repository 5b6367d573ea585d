"""Ends a batch: joins its parts into files and records in one transaction what became of it.

Invariant: the files' ids follow from the batch, so that finalizing twice makes them once. The
batch ends in the transaction that adds the files and queues the webhook event.
"""

import hashlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any

import orjson

from batches import claims, ids
from batches.line_check import LineError
from batches.records import BatchPart, BatchState
from batches.result_parts import read_parts
from core.db.tables.base import now
from files.repository import add_files, new_row, object_name
from intake.services import Services
from webhooks.events import add_event
from wire.views.batches import batch_object

FILE_NAMES = {"output": "{}_output.jsonl", "error": "{}_error.jsonl"}


async def end_batch(
    services: Services,
    batch: BatchState,
    status: str,
    errors: Sequence[LineError] = (),
    /,
    **values: Any,
) -> bool:
    """End a batch.

    Args:
        services: What the process shares.
        batch: The batch as it was last read.
        status: The status it ends with.
        errors: What is wrong with the batch as a whole or with its lines.
        values: Other columns to change.

    Returns:
        False if its status has changed meanwhile: a client asked to cancel it.

    Raises:
        Superseded: another process has claimed the batch.
        ObjectMissing: a part of the results no longer exists.
    """
    stamp = batch.finalizing_at or batch.cancelling_at or batch.created_at
    parts = await claims.list_parts(services.database, batch.id)
    files = [
        file
        for kind in FILE_NAMES
        if (file := await _join(services, batch, parts, kind, int(stamp.timestamp() * 1000)))
    ]
    by_purpose = {file["purpose"]: file["id"] for file in files}
    columns = {
        "status": status,
        "ended_at": now(),
        "output_file_id": by_purpose.get("batch_output"),
        "error_file_id": by_purpose.get("batch_error"),
        **values,
    }
    if errors:
        columns["errors"] = errors_json(errors)
    async with services.database.write() as connection:
        if not await claims.change_batch(
            connection, batch.id, batch.fence, batch.status, **columns
        ):
            return False
        await add_files(connection, [{**file, "purpose": "batch_output"} for file in files])
        await claims.delete_parts(connection, batch.id)
        shown = batch_object(await claims.state_in(connection, batch.id))
        event_id = f"evt_{batch.id}_{status}"
        await add_event(connection, batch.account_id, f"batch.{status}", shown, event_id=event_id)
    await _delete_part_objects(services, batch.id)
    return True


def errors_json(errors: Sequence[LineError]) -> str:
    """Return a batch's errors as its row keeps them."""
    return orjson.dumps([error.as_dict() for error in errors]).decode()


async def _delete_part_objects(services: Services, batch_id: str) -> None:
    """Delete the objects of a batch's parts; if this fails, the sweeper deletes them."""
    async for listed in services.object_store.listed(ids.parts_folder(batch_id)):
        await services.object_store.delete([item.name for item in listed])


async def _join(
    services: Services,
    batch: BatchState,
    parts: Sequence[BatchPart],
    kind: str,
    milliseconds: int,
) -> dict[str, Any] | None:
    """Write one file with all lines of a kind; returns its row, None if there are no lines."""
    size = sum(part.bytes_of(kind) for part in parts)
    if not size:
        return None
    digest = hashlib.sha256()

    async def hashed() -> AsyncGenerator[bytes, None]:
        async for piece in read_parts(services, batch.id, parts, kind):
            digest.update(piece)
            yield piece

    file_id = ids.file_id(batch.id, kind, milliseconds)
    await services.object_store.put(object_name(file_id), hashed())
    created = now()
    kept = services.settings.files.kept
    if batch.output_seconds is not None:
        kept = timedelta(seconds=batch.output_seconds)
    return new_row(
        file_id,
        batch.account_id,
        f"batch_{kind}",
        FILE_NAMES[kind].format(batch.id),
        size,
        digest.hexdigest(),
        created,
        created + kept,
    )
