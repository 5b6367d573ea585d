"""The batch object of OpenAI's API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from wire.views.files import unix_seconds

#: Final statuses; each has its own field for the time of the end.
ENDS = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as clients see it; `errors`, `metadata` and `waiting` are JSON texts."""

    id: str
    endpoint: str
    model: str | None
    errors: str | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: datetime
    in_progress_at: datetime | None
    expires_at: datetime
    finalizing_at: datetime | None
    cancelling_at: datetime | None
    ended_at: datetime | None
    total: int
    completed: int
    failed: int
    metadata: str | None
    waiting: str | None


def batch_object(batch: BatchRecord) -> dict[str, Any]:
    """Build the batch object from its record."""
    ended = {f"{status}_at": None for status in ENDS}
    if batch.ended_at is not None:
        ended[f"{batch.status}_at"] = unix_seconds(batch.ended_at)  # type: ignore[assignment]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": _errors(batch.errors),
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": unix_seconds(batch.created_at),
        "in_progress_at": unix_seconds(batch.in_progress_at),
        "expires_at": unix_seconds(batch.expires_at),
        "finalizing_at": unix_seconds(batch.finalizing_at),
        "cancelling_at": unix_seconds(batch.cancelling_at),
        **ended,
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": None if batch.metadata is None else orjson.loads(batch.metadata),
        "waiting": _waiting(batch),
    }


def _waiting(batch: BatchRecord) -> dict[str, Any] | None:
    """Return what holds up a running batch."""
    if batch.waiting is None or batch.status != "in_progress":
        return None
    found: dict[str, Any] = orjson.loads(batch.waiting)
    return found


def _errors(errors: str | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    return {"object": "list", "data": orjson.loads(errors)}
