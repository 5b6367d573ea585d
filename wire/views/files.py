"""The file object of OpenAI's API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A stored file; `sha256` is the hash of its bytes in hexadecimal."""

    id: str
    purpose: str
    filename: str
    bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None


def unix_seconds(instant: datetime | None) -> int | None:
    """Convert a time to whole Unix seconds."""
    return None if instant is None else int(instant.timestamp())


def file_object(file: FileRecord) -> dict[str, Any]:
    """Build the file object; `sha256` is our addition to OpenAI's fields."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix_seconds(file.created_at),
        "expires_at": unix_seconds(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": file.sha256,
    }
