"""Requeueing a running job: first its pending events are written, then it goes back to the queue.

Invariant: the job is requeued only after its pending events stand in the log, so the next attempt
continues after them and repeats none.
"""

import asyncio

from core.errors import PipelineError, StoreUnavailable
from jobs.blame import Blame
from jobs.store.job_store import JobStore
from workers.attempt import Attempt
from workers.step_writer import StepWriter

RETRY_SECONDS = 0.2


async def requeue(
    store: JobStore,
    writer: StepWriter,
    attempt: Attempt,
    error: PipelineError | None,
    *,
    delay_seconds: float = 0.0,
    counted: bool = True,
    blame: Blame = Blame.NONE,
) -> str | None:
    """Write what is pending, then requeue the job; retry while Redis does not answer.

    Args:
        store: The job store.
        writer: Writes the pending events.
        attempt: The attempt to end.
        error: Why it failed; None for a hand-over.
        delay_seconds: How long the job must wait before it may be claimed again.
        counted: Whether this attempt counts towards the job's limit of attempts.
        blame: What the job had to do with its end.

    Returns:
        The status that the script gave the job (`queued`, or a terminal one when no attempts are
        left) or `lost`; None if the attempt was released while this waited.
    """
    while attempt.pending and not attempt.over:
        attempt.flushed.clear()
        writer.flush(attempt)
        await attempt.flushed.wait()
    while not attempt.over:
        try:
            outcome = await store.requeue(
                attempt.id,
                attempt.claimed.fence,
                error,
                delay_seconds=delay_seconds,
                counted=counted,
                blame=blame,
            )
        except StoreUnavailable:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        attempt.log.info("job_requeued", outcome=outcome, counted=counted, blame=blame)
        return None if attempt.over else outcome
    return None
