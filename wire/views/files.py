"""What clients see of files and batches, as OpenAI shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any


def unix(instant: datetime | None) -> int | None:
    """Return an instant in Unix seconds."""
    return None if instant is None else int(instant.timestamp())


def file_object(row: Any) -> dict[str, Any]:
    """Return a file; `sha256` is our own addition."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": unix(row.created_at),
        "expires_at": unix(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": row.sha256,
    }


def page(data: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Return a page of a list."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }
