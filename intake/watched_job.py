"""The job that a client waits for, and what happens to it when its last client disconnects."""

from dataclasses import dataclass

import structlog

from core.errors import PipelineError
from intake.services import Services
from jobs.job import Job, OnDisconnect
from jobs.status import Status

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job that a client follows from a cursor; `after` is the last event number it has seen."""

    job_id: str
    account: str
    on_disconnect: OnDisconnect
    after: int = 0
    traceparent: str | None = None

    @classmethod
    def of(cls, job: Job, after: int = 0) -> "WatchedJob":
        """Return the job's record as a job to follow from a cursor."""
        spec = job.spec
        return cls(job.id, job.account, spec.on_disconnect, after, spec.traceparent)


async def cancel_if_abandoned(services: Services, watched: WatchedJob) -> None:
    """Cancel a job whose client disconnected, if its policy says so and no other client watches.

    Only the clients of this process are counted. If the job cannot be cancelled it runs on; the
    failure is logged.
    """
    if watched.on_disconnect != "cancel" or services.job_watchers.any(watched.job_id):
        return
    try:
        answer = await services.store.cancel(watched.job_id, watched.account)
    except PipelineError as error:
        log.warning("cancel_on_disconnect_failed", job_id=watched.job_id, error=error.code)
    else:
        if answer in ("cancelling", Status.CANCELLED):
            log.info("job_abandoned", job_id=watched.job_id, answer=answer)
