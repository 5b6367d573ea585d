"""Finds a stored response by its id."""

from core.errors import JobGone, JobNotFound
from intake.lookup.job_lookup import FoundJob, find_job
from intake.services import Services
from wire.views.response import job_id_of


async def find_response(services: Services, name: str, account: str) -> FoundJob:
    """Return a stored response.

    Args:
        services: What the process shares.
        name: The response's id.
        account: The account it must belong to.

    Raises:
        JobNotFound: unknown, another account's, or not to be stored.
        JobGone, DatabaseUnavailable: as `find_job`.
    """
    job_id = job_id_of(name)
    try:
        found = await find_job(services, job_id, account) if job_id else None
    except JobNotFound:
        found = None
    except JobGone:
        raise JobGone(f"Response {name!r} was deleted or is no longer kept") from None
    if found is None or not found.job.spec.keeps_body:
        raise JobNotFound(f"Response {name!r} not found", param="response_id")
    return found
