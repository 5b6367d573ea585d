"""Hands a submission to the job store: budget reservation, trace, one retry if the answer is lost.

Invariant: submitting again after a lost answer accepts no second job, because the store recognizes
the job's id.
"""

import asyncio
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from prometheus_client import Counter

from core import metrics, tracing
from core.errors import BudgetExceeded, PipelineError, SpendingUnknown, StoreUnavailable
from core.spans import Attributes
from intake.services import Services
from jobs.fairness import ServiceTier
from jobs.job import Job
from jobs.status import Status
from jobs.store.transitions import AcceptedJob, Submission

RETRY_SECONDS = 0.1


class Admission(NamedTuple):
    """A submission and the job that was accepted for it."""

    submission: Submission
    accepted: AcceptedJob

    @property
    def replayed(self) -> bool:
        """Whether the job is that of an earlier request with the same idempotency key."""
        return self.accepted.replayed

    @property
    def job(self) -> Job:
        """The job as it was when it was accepted; outdated if `replayed`."""
        return fresh_job(self.submission, self.accepted)


async def submit_within_budget(services: Services, submission: Submission) -> Admission:
    """Reserve budget for a submission and hand it to the store; a replayed request needs none.

    Raises:
        ModelNotFound: the model is unknown.
        IdempotencyMismatch: the idempotency key was used with another request.
        BudgetExceeded: it may cost more than the budget has left.
        LimitTooSmall: it may use more tokens than its API key may use in a minute.
        RateLimited, QueueFull, WaitTooLong, QueueDraining, LockLost: retry later.
        SpendingUnknown, StoreUnavailable: retry later.
    """
    model = await services.models.get(submission.queue)
    spec = submission.spec
    try:
        reservation = services.budget_guard.reserve(
            submission.account, submission.budget_key, model, spec.service_tier, spec.body
        )
    except SpendingUnknown:
        repeated = await services.store.repeated(submission)
        if repeated is None:
            raise
        return Admission(submission, repeated)
    if reservation is None:
        return await submit(services, submission)
    try:
        return await submit(services, submission._replace(reservation=reservation))
    except BudgetExceeded as error:
        services.budget_guard.note_refusal(reservation, submission.queue, error)
        raise


async def submit(services: Services, submission: Submission) -> Admission:
    """Submit to the store; if traces are on, the job's trace begins here.

    Raises:
        PipelineError: as `submit_within_budget`.
    """
    span = tracing.begin_here()
    if span is None:
        return await _submit(services, submission)
    spec = replace(submission.spec, traceparent=span.context.traceparent)
    submission = submission._replace(spec=spec)
    error = "cancelled"
    accepted: AcceptedJob | None = None
    try:
        admission = await _submit(services, submission)
    except PipelineError as refused:
        error = refused.code
        raise
    else:
        accepted, error = admission.accepted, ""
        return admission
    finally:
        attributes = _span_attributes(submission, accepted)
        span.end("submit", attributes, kind="producer", error=error)


def _span_attributes(submission: Submission, accepted: AcceptedJob | None) -> Attributes:
    attributes: dict[str, str | bool] = {
        "gen_ai.request.model": submission.queue,
        "penstock.job.id": submission.id if accepted is None else accepted.id,
        "penstock.account": submission.account,
        "penstock.service_tier": submission.spec.service_tier,
    }
    if accepted is not None and accepted.replayed:
        attributes["penstock.replayed"] = True
    if submission.spec.retry_of:
        attributes["penstock.retry_of"] = submission.spec.retry_of
    return attributes


async def _submit(services: Services, submission: Submission) -> Admission:
    """Submit; once more if Redis did not know what the account has spent."""
    try:
        accepted = await _submit_with_retry(services, submission)
    except SpendingUnknown:
        accepted = await _submit_with_spending(services, submission)
    if not accepted.replayed:
        _accepted_counter(submission.queue, submission.spec.service_tier).inc()
    return Admission(submission, accepted)


async def _submit_with_retry(services: Services, submission: Submission) -> AcceptedJob:
    """Submit; once more if the answer was lost. The store recognizes the id of an accepted job."""
    try:
        return await services.store.submit(submission)
    except StoreUnavailable:
        await asyncio.sleep(RETRY_SECONDS)
        return await services.store.submit(submission)


async def _submit_with_spending(services: Services, submission: Submission) -> AcceptedJob:
    """Tell Redis what the account has spent this month, then submit."""
    if submission.reservation is not None:
        try:
            await services.budget_guard.load_spending(submission.reservation)
        except SpendingUnknown:
            if not services.budget_guard.allows_unknown_spending(submission.reservation):
                raise
            submission = submission._replace(reservation=None)
    return await services.store.submit(submission)


@lru_cache(maxsize=256)
def _accepted_counter(queue: str, tier: ServiceTier) -> Counter:
    return metrics.jobs_submitted.labels(queue, tier)


def fresh_job(submission: Submission, accepted: AcceptedJob) -> Job:
    """Return the job's record as the store has just written it, without reading it again."""
    return Job(
        id=accepted.id,
        account=submission.account,
        queue=submission.queue,
        spec=submission.spec,
        status=Status.QUEUED,
        created=accepted.created,
        queued=accepted.created,
        started=0,
        claimed=0,
        finished=0,
        attempt=0,
        failures=0,
        fence=0,
        seq=0,
        input_tokens=0,
        cached_input_tokens=0,
        output_tokens=0,
        run_ms=0,
        start_by=submission.start_by or 0,
        deadline=submission.deadline or 0,
        cancel_requested=0,
        worker="",
        error=None,
    )
