"""What clients see of files and batches, as OpenAI shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as clients see it; `sha256` is the hash of its bytes, in hexadecimal."""

    id: str
    purpose: str
    filename: str
    bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None


def unix(instant: datetime | None) -> int | None:
    """Return an instant in Unix seconds."""
    return None if instant is None else int(instant.timestamp())


def file_object(file: FileRecord) -> dict[str, Any]:
    """Return a file; `sha256` is our own addition."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix(file.created_at),
        "expires_at": unix(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": file.sha256,
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
