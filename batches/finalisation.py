"""Ends a batch: joins its parts into files, and says in one transaction what became of it.

Invariant: files have ids that follow from the batch, so that finishing twice makes them once; the
batch ends in the transaction that makes them known and tells who listens.
"""

import hashlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any

from batches import ids, repository
from batches.line_check import LineError
from batches.result_parts import joined
from core.db.tables.base import now
from files.repository import add_files, new_row, object_name
from intake.services import Services
from webhooks.events import add_event
from wire.views.batches import batch_object

FILE_NAMES = {"output": "{}_output.jsonl", "error": "{}_error.jsonl"}


async def end(
    api: Services, row: Any, status: str, complaints: Sequence[LineError] = (), /, **counts: Any
) -> bool:
    """End a batch that has this status no more; False when a client wanted something else.

    Raises:
        Superseded: another process has the batch.
    """
    stamp = row.finalizing_at or row.cancelling_at or row.created_at
    parts = await repository.parts_of(api.database, row.id)
    files = [
        file
        for kind in FILE_NAMES
        if (file := await _join(api, row, parts, kind, int(stamp.timestamp() * 1000)))
    ]
    by_purpose = {file["purpose"]: file["id"] for file in files}
    values = {
        "status": status,
        "ended_at": now(),
        "output_file_id": by_purpose.get("batch_output"),
        "error_file_id": by_purpose.get("batch_error"),
        **counts,
    }
    if complaints:
        values["errors"] = repository.complaints_json([one.as_dict() for one in complaints])
    async with api.database.write() as connection:
        if not await repository.change(connection, row.id, row.fence, row.status, **values):
            return False
        await add_files(connection, [{**file, "purpose": "batch_output"} for file in files])
        await repository.forget_parts(connection, row.id)
        shown = batch_object(await repository.shown(connection, row.id))
        name = f"evt_{row.id}_{status}"
        await add_event(connection, row.account_id, f"batch.{status}", shown, event_id=name)
    await clear(api, row.id)
    return True


async def clear(api: Services, batch_id: str) -> None:
    """Delete the objects of a batch's parts; what is left when this dies is swept."""
    async for listed in api.object_store.listed(ids.parts_folder(batch_id)):
        await api.object_store.delete([one.name for one in listed])


async def _join(
    api: Services, row: Any, parts: Sequence[Any], kind: str, milliseconds: int
) -> dict[str, Any] | None:
    """Make one file of all lines of a kind; None where there are none."""
    size = sum(part.output_bytes if kind == "output" else part.error_bytes for part in parts)
    if not size:
        return None
    digest = hashlib.sha256()

    async def hashed() -> AsyncGenerator[bytes, None]:
        async for piece in joined(api, row.id, parts, kind):
            digest.update(piece)
            yield piece

    file_id = ids.file_id(row.id, kind, milliseconds)
    await api.object_store.put(object_name(file_id), hashed())
    created = now()
    kept = api.settings.files.kept
    if row.output_seconds is not None:
        kept = timedelta(seconds=row.output_seconds)
    return new_row(
        file_id,
        row.account_id,
        f"batch_{kind}",
        FILE_NAMES[kind].format(row.id),
        size,
        digest.hexdigest(),
        created,
        created + kept,
    )
