"""Names that follow from a batch: whoever works on it, and however often, means the same things.

Invariant: a request's job id follows from the batch and the request's index alone. That is what
makes a job of it once, billed once, whatever dies in between: submitting it again finds it.
"""

import hashlib

WIDTH = 20


def job_id(batch_id: str, index: int) -> str:
    """Return the id of a request's job; it sorts by the batch's time of creation."""
    return f"job_{_time(batch_id)}{_hash(batch_id, str(index))}"


def request_id(batch_id: str, index: int) -> str:
    """Return what a request's line in the output is called."""
    return f"batch_req_{_time(batch_id)}{_hash(batch_id, str(index))}"


def file_id(batch_id: str, kind: str, milliseconds: int) -> str:
    """Return the id of a batch's file; it sorts by the time the batch was finalized."""
    return f"file_{milliseconds:012x}{_hash(batch_id, kind)}"


def lock_name(batch_id: str) -> str:
    """Return the lock of whoever works on a batch."""
    return f"batch:{batch_id}"


def parts_folder(batch_id: str) -> str:
    """Return where a batch's parts lie in the file store."""
    return f"batches/{batch_id}"


def _time(batch_id: str) -> str:
    return batch_id.partition("_")[2][:12]


def _hash(batch_id: str, what: str) -> str:
    return hashlib.sha256(f"{batch_id}:{what}".encode()).hexdigest()[:WIDTH]
