"""Deterministic ids derived from the batch id.

Invariant: a request's job id follows from the batch id and the request's index alone. A process
that takes over a batch therefore finds the jobs that exist already, and each request is run and
billed once.
"""

import hashlib

HASH_CHARACTERS = 20


def job_id(batch_id: str, index: int) -> str:
    """Return the id of a request's job; it sorts by the batch's creation time."""
    return f"job_{_time(batch_id)}{_hash(batch_id, str(index))}"


def request_id(batch_id: str, index: int) -> str:
    """Return the id of a request's line in the output."""
    return f"batch_req_{_time(batch_id)}{_hash(batch_id, str(index))}"


def file_id(batch_id: str, kind: str, milliseconds: int) -> str:
    """Return the id of a batch's result file.

    Args:
        batch_id: The batch's id.
        kind: `output` or `error`.
        milliseconds: When the batch was finalized, in Unix milliseconds; the id sorts by it.
    """
    return f"file_{milliseconds:012x}{_hash(batch_id, kind)}"


def lock_name(batch_id: str) -> str:
    """Return the name of the lock that the process working on a batch holds."""
    return f"batch:{batch_id}"


def parts_folder(batch_id: str) -> str:
    """Return the folder of a batch's parts in the object store."""
    return f"batches/{batch_id}"


def _time(batch_id: str) -> str:
    return batch_id.partition("_")[2][:12]


def _hash(batch_id: str, text: str) -> str:
    return hashlib.sha256(f"{batch_id}:{text}".encode()).hexdigest()[:HASH_CHARACTERS]
