"""The file object of OpenAI's API."""

from datetime import datetime
from typing import Any


def unix_seconds(instant: datetime | None) -> int | None:
    """Convert a time to whole Unix seconds."""
    return None if instant is None else int(instant.timestamp())


def file_object(row: Any) -> dict[str, Any]:
    """Build the file object; `sha256` is our addition to OpenAI's fields."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": unix_seconds(row.created_at),
        "expires_at": unix_seconds(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": row.sha256,
    }
