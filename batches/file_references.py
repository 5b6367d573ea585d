"""Tells the sweeper of files what open batches still need: their input files and their parts."""

from sqlalchemy import select

from batches import repository
from core.db.tables.files import BatchRow
from files.object_cleanup import FileReferences

FILE_REFERENCES = FileReferences(
    files_in_use=select(BatchRow.input_file_id).where(BatchRow.ended_at.is_(None)),
    folders={"batches": repository.still_open},
)
