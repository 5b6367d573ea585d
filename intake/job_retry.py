"""Runs a job without a result again, as a new job."""

from accounts.caller import Caller
from core.errors import JobConflict
from intake.admission import repeat
from intake.services import Services
from intake.submission import Admission
from jobs.job import Job
from jobs.status import Status

RETRYABLE = (Status.FAILED, Status.EXPIRED, Status.CANCELLED)


async def retry_job(
    services: Services, caller: Caller, job: Job, request_id: str, address: str = ""
) -> Admission:
    """Submit a job's spec again and remove the old job from the dead-letter list.

    Args:
        services: The process's services.
        caller: Who retries the job; the new job belongs to this caller.
        job: A failed, expired or cancelled job.
        request_id: The request that retries it.
        address: The client's address, if it is limited.

    Returns:
        The admission of the new job.

    Raises:
        JobConflict: The job has a result or has not ended.
    """
    if job.status not in RETRYABLE:
        raise JobConflict(
            f"Job {job.id} is {job.status}; only a job without a result can be retried"
        )
    admission = await repeat(services, caller, job, request_id, address)
    await services.store.dead.remove(job)
    return admission
