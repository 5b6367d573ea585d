"""Files of clients, and batches with what has been written of their results.

A file's bytes lie in the file store, named by its id. A batch's requests are not rows: each is a
job whose id follows from the batch's id and its number, and `done` has one bit for each that has
its result in a part.
"""

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Id, JsonText, Name, Word, now


class FileRow(Base):
    """A file; once `deleted_at` is set clients see it no more, and it goes when no batch needs it.

    `sha256` is of its bytes.
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
    """One batch. `fence` rises with every process that takes it; only the newest may write.

    `caller` is where the record of who made it is found; `outcome` is the status it is to end with;
    jobs may exist of the requests before `reached`.
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


class BatchPartRow(Base):
    """Results that were written together: an object for each kind there were any of."""

    __tablename__ = "batch_parts"

    batch_id: Mapped[Id] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[Name]
    output_bytes: Mapped[int]
    error_bytes: Mapped[int]
