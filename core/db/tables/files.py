"""Files of clients, and batches with the results written so far.

A file's bytes are in the file store, under its id. A batch's requests have no rows: each is a job
whose id is derived from the batch's id and the request's number. `done` has one bit per request
whose result is in a part.
"""

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Id, JsonText, Name, Word, now


class FileRow(Base):
    """A file. With `deleted_at` set clients cannot see it; it is removed when no batch needs it.

    `sha256` is the checksum of its bytes.
    """

    __tablename__ = "files"
    __table_args__ = (
        Index(None, "account_id", "id"),
        Index(None, "expires_at"),
        Index(
            "ix_files_deleted",
            "deleted_at",
            postgresql_where=text("deleted_at IS NOT NULL"),
            sqlite_where=text("deleted_at IS NOT NULL"),
        ),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id]
    purpose: Mapped[Word]
    filename: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class BatchRow(Base):
    """One batch. `fence` rises with each process that takes it over; only the newest one may write.

    `caller` leads to the record of who created it; `outcome` is the status that it will end with;
    jobs may exist for the requests before `reached`. `waiting` says what holds it up: a JSON object
    with `code`, `message` and `since`.
    """

    __tablename__ = "batches"
    __table_args__ = (
        Index(None, "account_id", "id"),
        Index(
            "ix_batches_open",
            "id",
            postgresql_where=text("ended_at IS NULL"),
            sqlite_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id]
    caller: Mapped[str] = mapped_column(String(320))
    endpoint: Mapped[Name]
    input_file_id: Mapped[Id]
    completion_window: Mapped[Word]
    metadata_json: Mapped[JsonText | None] = mapped_column("metadata")
    output_seconds: Mapped[int | None]
    status: Mapped[Word]
    outcome: Mapped[Word | None]
    model: Mapped[Name | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    in_progress_at: Mapped[datetime | None]
    finalizing_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    errors: Mapped[JsonText | None]
    output_file_id: Mapped[Id | None]
    error_file_id: Mapped[Id | None]
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    reached: Mapped[int] = mapped_column(default=0)
    done: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    waiting: Mapped[JsonText | None]


class BatchPartRow(Base):
    """Results written together: one object for outputs and one for errors, if there are any."""

    __tablename__ = "batch_parts"

    batch_id: Mapped[Id] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[Name]
    output_bytes: Mapped[int]
    error_bytes: Mapped[int]
