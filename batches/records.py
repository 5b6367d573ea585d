"""Batches and their parts as SQL keeps them, and the statuses of a batch."""

from dataclasses import dataclass

from core.db.row_mapping import columns_of
from core.db.tables.base import table_of
from core.db.tables.files import BatchPartRow, BatchRow
from wire.views.batches import BatchRecord

VALIDATING, IN_PROGRESS, FINALIZING = "validating", "in_progress", "finalizing"
COMPLETED, FAILED, EXPIRED = "completed", "failed", "expired"
CANCELLING, CANCELLED = "cancelling", "cancelled"


@dataclass(frozen=True, slots=True)
class BatchState(BatchRecord):
    """A batch as the process that works on it sees it.

    Attributes:
        account_id: The account that owns it.
        outcome: The status it is to end with, once that is known.
        output_seconds: How long its result files are kept; None for the default.
        fence: The number of the newest claim.
        reached: Jobs may exist only for requests with a lower index than this.
    """

    account_id: str
    outcome: str | None
    output_seconds: int | None
    fence: int
    reached: int


@dataclass(frozen=True, slots=True)
class ClaimedBatch(BatchState):
    """A batch as it was when this process claimed it.

    Attributes:
        owner: The field of the caller cache that holds the record of its creator.
        done: A bit for each request that has its result in a part, lowest bit first.
    """

    owner: str
    done: bytes


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Results that were written together; sizes in bytes, 0 if there is no object of that kind."""

    number: int
    name: str
    output_bytes: int
    error_bytes: int

    def bytes_of(self, kind: str) -> int:
        """Return the size of the `output` or `error` object."""
        return self.output_bytes if kind == "output" else self.error_bytes


#: Columns of `BatchState`: without `done`, which can be large.
STATE = columns_of(table_of(BatchRow), BatchState)
CLAIM = columns_of(table_of(BatchRow), ClaimedBatch, owner="caller")
PART = columns_of(table_of(BatchPartRow), BatchPart)
