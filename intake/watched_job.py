"""The job that a client waits for, and what happens to it when its last client disconnects."""

import asyncio
from dataclasses import dataclass

import structlog

from core.errors import PipelineError, StoreUnavailable
from intake.services import Services
from jobs.job import Job, OnDisconnect
from jobs.status import Status

log = structlog.get_logger()

#: How long a cancel is tried again while Redis is away, and how often.
CANCEL_SECONDS = 30.0
RETRY_SECONDS = 0.5


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

    Only the clients of this process are counted. While Redis is away it tries again, for at most
    CANCEL_SECONDS; if the job cannot be cancelled it runs on, and the failure is logged.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + CANCEL_SECONDS
    while watched.on_disconnect == "cancel" and not services.job_watchers.any(watched.job_id):
        try:
            answer = await services.store.cancel(watched.job_id, watched.account)
        except PipelineError as error:
            late = loop.time() > give_up or services.open_requests.closing
            if late or not isinstance(error, StoreUnavailable):
                log.warning("cancel_on_disconnect_failed", job_id=watched.job_id, error=error.code)
                return
            await asyncio.sleep(RETRY_SECONDS)
        else:
            if answer in ("cancelling", Status.CANCELLED):
                log.info("job_abandoned", job_id=watched.job_id, answer=answer)
            return
