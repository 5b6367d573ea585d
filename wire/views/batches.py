"""The batch object of OpenAI's API."""

from typing import Any

import orjson

from wire.views.files import unix_seconds

#: Final statuses; each has its own field for the time of the end.
ENDS = ("completed", "failed", "expired", "cancelled")


def batch_object(row: Any) -> dict[str, Any]:
    """Build the batch object from its row."""
    ended = {f"{status}_at": None for status in ENDS}
    if row.ended_at is not None:
        ended[f"{row.status}_at"] = unix_seconds(row.ended_at)  # type: ignore[assignment]
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "model": row.model,
        "errors": _errors(row.errors),
        "input_file_id": row.input_file_id,
        "completion_window": row.completion_window,
        "status": row.status,
        "output_file_id": row.output_file_id,
        "error_file_id": row.error_file_id,
        "created_at": unix_seconds(row.created_at),
        "in_progress_at": unix_seconds(row.in_progress_at),
        "expires_at": unix_seconds(row.expires_at),
        "finalizing_at": unix_seconds(row.finalizing_at),
        "cancelling_at": unix_seconds(row.cancelling_at),
        **ended,
        "request_counts": {
            "total": row.total,
            "completed": row.completed,
            "failed": row.failed,
        },
        "metadata": None if row.metadata is None else orjson.loads(row.metadata),
    }


def _errors(errors: str | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    return {"object": "list", "data": orjson.loads(errors)}
