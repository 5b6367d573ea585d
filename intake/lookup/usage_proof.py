"""Collects the proof of a job's usage: its ledger row and the output that is still stored."""

from typing import NamedTuple

from billing.reports.proof import Proof, read_proof
from core.errors import JobGone, JobNotFound
from intake.lookup.job_lookup import ID, FoundJob, find_job
from intake.services import Services
from jobs.result import JobResult
from wire.errors import ProofNotReady
from wire.views.proof import OutputStore


class StoredProof(NamedTuple):
    """A job's proof with its output; `stored_in` is None when the output is gone."""

    proof: Proof
    stored_in: OutputStore | None
    output: JobResult


async def find_proof(services: Services, job_id: str, account: str | None) -> StoredProof:
    """Find the proof of one job.

    Args:
        services: The process's services.
        job_id: The job.
        account: The account that asks; None finds jobs of every account.

    Raises:
        JobNotFound: No such job, or it belongs to another account.
        JobGone: The job was deleted before its usage was recorded.
        ProofNotReady: The job has not ended, or its usage is not in the ledger yet.
    """
    if not ID.fullmatch(job_id):
        raise JobNotFound(f"Job {job_id} not found")
    missing: Exception | None = None
    found: FoundJob | None = None
    try:
        found = await find_job(services, job_id, account)
    except (JobGone, JobNotFound) as error:
        missing = error
    proof = await read_proof(services.database, job_id, account)
    if proof is None:
        if missing is not None:
            raise missing
        raise ProofNotReady(f"Job {job_id} has not ended, or its usage is not recorded yet")
    return StoredProof(proof, *await _stored_output(services, found))


async def _stored_output(
    services: Services, found: FoundJob | None
) -> tuple[OutputStore | None, JobResult]:
    if found is None:
        return None, JobResult()
    try:
        result = await found.result(services)
    except JobGone:
        return None, JobResult()
    if result.usage is None:
        return None, JobResult()  # the log was deleted after the job was found
    return "log" if found.archived is None else "archive", result
