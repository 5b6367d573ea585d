"""From a validated request to an accepted job: model, tier, limits, then one call to the store.

Invariant: the account and its limits come from the key alone, and the stored body is the
client's own, less nulls and the fields that speak to the API.
"""

import asyncio
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from prometheus_client import Counter

from accounts.caller import Caller
from core import metrics, tracing
from core.errors import (
    InvalidJob,
    PipelineError,
    SpendingUnknown,
    StoreUnavailable,
)
from core.ids import new_id
from intake.permissions import check_model
from intake.preferences import Preferences
from intake.prompt_limits import check_prompt
from intake.request_checks import check_length, check_metadata, check_task, check_times
from intake.services import Services
from jobs.fairness import ServiceTier
from jobs.job import Job, JobSpec, JobWebhook, OnDisconnect
from jobs.status import Status
from jobs.store.rate_limits import UNLIMITED, quota_of
from jobs.store.transitions import AcceptedJob, Lock, Submission
from webhooks.url_rules import check_url
from wire.schemas.sampling import TRANSPORT, ModelRequest

RETRY_SECONDS = 0.1


class AdmissionRequest(NamedTuple):
    """One request for a job. Times are Unix milliseconds; `response` as in `JobSpec`."""

    url: str
    body: dict[str, Any]
    checked: ModelRequest
    request_id: str
    preferences: Preferences
    on_disconnect: OnDisconnect
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    deadline: int | None = None
    start_by: int | None = None
    watched: bool = False
    response: dict[str, Any] | None = None
    #: The job's id, where who asks must be able to ask again; else a new one.
    id: str = ""
    webhook: JobWebhook | None = None
    quiet: bool = False
    #: What who asks must hold when the job is accepted.
    lock: Lock | None = None


class Admission(NamedTuple):
    """What was accepted, and how."""

    submission: Submission
    accepted: AcceptedJob

    @property
    def replayed(self) -> bool:
        """Whether an earlier submission was accepted in this one's place."""
        return self.accepted.replayed

    @property
    def job(self) -> Job:
        """The job as it was when it was accepted; stale when `replayed`."""
        return fresh_job(self.submission, self.accepted)


async def admit(api: Services, key: Caller, wish: AdmissionRequest) -> Admission:
    """Accept a job.

    Raises:
        InvalidJob, ModelNotFound, IdempotencyMismatch: the request must change.
        BudgetExceeded: it may cost more than is left.
        LimitTooSmall: it may take more tokens than its key may in a minute.
        RateLimited, QueueFull, WaitTooLong, QueueDraining, LockLost: come back later.
        SpendingUnknown, StoreUnavailable: the same.
    """
    try:
        try:
            submission = await prepare(api, key, wish)
            return await _submit_within_budget(api, submission)
        except orjson.JSONEncodeError:
            text = "body: it is nested too deeply to be stored"
            raise InvalidJob(text, param="body") from None
    except PipelineError as error:
        metrics.jobs_refused.labels(error.code).inc()
        raise


async def submit(api: Services, submission: Submission) -> Admission:
    """Hand a submission to the store; its trace, where there is one, begins here."""
    span = tracing.begin_here()
    if span is None:
        return await _submit(api, submission)
    spec = replace(submission.spec, traceparent=span.context.traceparent)
    submission = submission._replace(spec=spec)
    error = "cancelled"
    accepted: AcceptedJob | None = None
    try:
        admitted = await _submit(api, submission)
    except PipelineError as refused:
        error = refused.code
        raise
    else:
        accepted, error = admitted.accepted, ""
        return admitted
    finally:
        span.end("submit", _described(submission, accepted), kind="producer", error=error)


def _described(submission: Submission, accepted: AcceptedJob | None) -> tracing.Attributes:
    described: dict[str, str | bool] = {
        "gen_ai.request.model": submission.queue,
        "penstock.job.id": submission.id if accepted is None else accepted.id,
        "penstock.account": submission.account,
        "penstock.service_tier": submission.spec.service_tier,
    }
    if accepted is not None and accepted.replayed:
        described["penstock.replayed"] = True
    if submission.spec.retry_of:
        described["penstock.retry_of"] = submission.spec.retry_of
    return described


async def _submit(api: Services, submission: Submission) -> Admission:
    """Submit, once more if the answer was lost or spending unknown."""
    try:
        accepted = await _submit_once_more(api, submission)
    except SpendingUnknown:
        accepted = await _submit_knowing(api, submission)
    if not accepted.replayed:
        _accepted(submission.queue, submission.spec.service_tier).inc()
    return Admission(submission, accepted)


async def _submit_within_budget(api: Services, submission: Submission) -> Admission:
    """Submit with what the budgets hold back; a repeat of what was accepted needs no budget."""
    model = await api.models.get(submission.queue)
    spec, key_id = submission.spec, submission.key_id
    try:
        hold = api.budget_guard.hold(
            submission.account, key_id, model, spec.service_tier, spec.body
        )
    except SpendingUnknown:
        repeated = await api.store.repeated(submission)
        if repeated is None:
            raise
        return Admission(submission, repeated)
    return await submit(api, submission if hold is None else submission._replace(hold=hold))


async def _submit_once_more(api: Services, submission: Submission) -> AcceptedJob:
    """Submit, and again if the answer was lost: the store knows the id if it got through."""
    try:
        return await api.store.submit(submission)
    except StoreUnavailable:
        await asyncio.sleep(RETRY_SECONDS)
        return await api.store.submit(submission)


async def _submit_knowing(api: Services, submission: Submission) -> AcceptedJob:
    """Submit once Redis knows what the account has spent this month."""
    if submission.hold is not None:
        try:
            await api.budget_guard.find_out(submission.hold)
        except SpendingUnknown:
            if not api.budget_guard.lets_pass(submission.hold):
                raise
            submission = submission._replace(hold=None)
    return await api.store.submit(submission)


@lru_cache(maxsize=256)
def _accepted(queue: str, tier: ServiceTier) -> Counter:
    return metrics.jobs_submitted.labels(queue, tier)


async def prepare(api: Services, key: Caller, wish: AdmissionRequest) -> Submission:
    """Check what the schema cannot: the model, its context, times and sizes; no budget yet.

    Raises:
        InvalidJob, InvalidWebhook, ModelNotFound, ContextLengthExceeded: the request must change.
        ModelForbidden: the caller's scopes leave the model out.
    """
    check_model(key, wish.checked.model)
    model = await api.models.get(wish.checked.model)
    check_task(model, wish.url)
    check_length(wish.checked, model.max_model_len)
    check_times(wish.start_by, wish.deadline)
    if wish.webhook is not None:
        check_url(wish.webhook.url, api.settings.webhooks, "webhook")
    check_prompt(wish.body, api.settings.limits)
    metadata = wish.metadata if wish.metadata is not None else wish.checked.metadata
    check_metadata(metadata, api.settings.limits.metadata_bytes)
    tier = _tier(wish.service_tier or wish.checked.service_tier)
    # Null means the default to OpenAI, and is wrong to vLLM.
    body = {
        name: value
        for name, value in wish.body.items()
        if value is not None and name not in TRANSPORT
    }
    return Submission(
        id=wish.id or new_id("job"),
        account=key.account,
        queue=model.name,
        spec=JobSpec(
            url=wish.url,
            body=body,
            service_tier=tier,
            metadata=metadata or {},
            on_disconnect=wish.on_disconnect,
            request_id=wish.request_id,
            response=wish.response,
            webhook=wish.webhook and wish.webhook.url,
            webhook_events=wish.webhook.events if wish.webhook else (),
            quiet=wish.quiet,
        ),
        key_id=key.id,
        weight=key.weight,
        start_by=wish.start_by,
        deadline=wish.deadline,
        idempotency_key=wish.preferences.idempotency_key,
        watcher=api.hub.id if wish.watched else "",
        quota=quota_of(key.account, key.id, key.limits, key.account_limits),
        lock=wish.lock,
    )


def _tier(name: str | None) -> ServiceTier:
    return ServiceTier.DEFAULT if name in (None, "auto") else ServiceTier(name)


def fresh_job(submission: Submission, accepted: AcceptedJob) -> Job:
    """Return the record as the store has just written it, without reading it back."""
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
        cached_tokens=0,
        output_tokens=0,
        run_ms=0,
        start_by=submission.start_by or 0,
        deadline=submission.deadline or 0,
        cancel_requested=0,
        worker="",
        error=None,
    )


async def repeat(api: Services, key: Caller, job: Job, request_id: str) -> Admission:
    """Submit a finished job's spec as a new job; the same one however often this is called."""
    # A limit in time was meant for the first run; another account's key says nothing about it.
    own = key.account == job.account
    key_id = key.id if own else ""
    check_model(key, job.queue)
    return await _submit_within_budget(
        api,
        Submission(
            id=new_id("job"),
            account=job.account,
            queue=job.queue,
            spec=replace(job.spec, retry_of=job.id, request_id=request_id, traceparent=None),
            key_id=key_id,
            weight=key.weight if own else 1.0,
            idempotency_key=f"retry:{job.id}",
            quota=quota_of(key.account, key.id, key.limits, key.account_limits)
            if own
            else UNLIMITED,
        ),
    )
