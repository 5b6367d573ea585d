"""Admits a validated request as a job: checks model, tier and limits, then calls the store once.

Invariant: the account and its limits come from the caller's record alone, and the stored body is
what the client sent, without nulls and without the fields that are for the API itself, and with
the data of media that it names by URL. A cache
salt is stored as a digest of the account and the salt.

A refusal by a limit, and its Retry-After, come from `jobs/store/rejections.py`.
"""

import hashlib
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from accounts.caller import Caller
from accounts.quota import quota_of
from core import metrics
from core.errors import InvalidJob, PipelineError
from core.ids import new_id
from intake.function_chat import has_functions, with_tools
from intake.media.media_fetcher import MediaFetcher
from intake.media.remote_media import remote_media, with_data
from intake.permissions import check_model
from intake.preferences import Preferences
from intake.prompt_limits import check_prompt
from intake.request_checks import check_length, check_metadata, check_task, check_times
from intake.request_limits.complexity import check_complexity
from intake.request_limits.media_types import check_media
from intake.services import Services
from intake.submission import Admission, submit_within_budget
from jobs.fairness import ServiceTier
from jobs.job import Job, JobSpec, JobWebhook, OnDisconnect
from jobs.media import chat_parts, check_parts
from jobs.store.rate_limits import UNLIMITED, Quota
from jobs.store.transitions import Lock, Submission
from webhooks.url_rules import check_url
from wire.schemas.sampling import TRANSPORT, ModelRequest


class AdmissionRequest(NamedTuple):
    """A validated request for a job.

    Attributes:
        url: The path of OpenAI's API that the body is for.
        body: The body as the client sent it.
        checked: The body as its schema read it.
        request_id: The id of the HTTP request or of the batch's request.
        preferences: What the client's headers ask for.
        on_disconnect: What happens to the job when its last client disconnects.
        service_tier: The tier, if not the body's.
        metadata: The client's metadata, if not the body's.
        deadline: When the job must have ended, in Unix milliseconds.
        start_by: When the job must have started, in Unix milliseconds.
        watched: Whether a client of this process follows the job from the beginning.
        response: What `JobSpec.response` keeps of a request of the Responses API.
        id: The job's id, for callers that may have to repeat the request; "" for a new one.
        webhook: Where to report the job.
        quiet: Whether the account's webhooks are not told of this job.
        lock: The lock in Redis that must be held when the job is accepted.
        address: The client's address, if it is limited.
    """

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
    id: str = ""
    webhook: JobWebhook | None = None
    quiet: bool = False
    lock: Lock | None = None
    address: str = ""


async def admit(services: Services, caller: Caller, request: AdmissionRequest) -> Admission:
    """Accept a job.

    Args:
        services: What the process shares.
        caller: The caller; names the account and its limits.
        request: The validated request.

    Returns:
        The accepted job; an earlier one if the idempotency key was used before.

    Raises:
        InvalidJob, InvalidWebhook, ModelNotFound, UnsupportedModel, ContextLengthExceeded: the
            request must change.
        MediaNotFetched: a URL of it could not be fetched.
        ModelForbidden: the API key's scopes exclude the model.
        IdempotencyMismatch: the idempotency key was used with another request.
        BudgetExceeded: it may cost more than the budget has left.
        LimitTooSmall: it may use more tokens than its API key may use in a minute.
        RateLimited, QueueFull, WaitTooLong, QueueDraining, LockLost, MediaBusy: retry later.
        SpendingUnknown, StoreUnavailable: retry later.
    """
    try:
        try:
            submission = await prepare(services, caller, request)
            fetcher = services.media_fetcher
            if fetcher is None:
                return await submit_within_budget(services, submission)
            return await _submit_fetched(services, fetcher, submission, request.checked)
        except orjson.JSONEncodeError:
            text = "body: nested too deeply to be stored"
            raise InvalidJob(text, param="body") from None
    except PipelineError as error:
        metrics.jobs_refused.labels(error.code).inc()
        raise


async def repeat(
    services: Services, caller: Caller, job: Job, request_id: str, address: str = ""
) -> Admission:
    """Submit an ended job's spec as a new job; repeating this returns the same new job.

    The new job has no deadline: the old one was meant for the first run. The limits of the
    caller's API key apply only if the job is of its own account.

    Args:
        services: What the process shares.
        caller: The caller; the operator may repeat jobs of other accounts.
        job: The ended job.
        request_id: The id of the HTTP request.
        address: The client's address, if it is limited.

    Raises:
        PipelineError: as `admit`.
    """
    own = caller.account == job.account
    check_model(caller, job.queue)
    model = await services.models.get(job.queue)
    parts = chat_parts(job.spec.body.get("messages"))
    check_parts(parts, model.name, model.modalities, services.settings.media)
    return await submit_within_budget(
        services,
        Submission(
            id=new_id("job"),
            account=job.account,
            queue=job.queue,
            spec=replace(job.spec, retry_of=job.id, request_id=request_id, traceparent=None),
            key_id=caller.id if own else "",
            budget_key=caller.quota_id if own else "",
            weight=caller.weight if own else 1.0,
            idempotency_key=f"retry:{job.id}",
            quota=quota_for(services, caller, address) if own else UNLIMITED,
        ),
    )


async def prepare(services: Services, caller: Caller, request: AdmissionRequest) -> Submission:
    """Check what the schema cannot, and return what to submit; no budget is reserved yet.

    Raises:
        InvalidJob, InvalidWebhook, ModelNotFound, UnsupportedModel, ContextLengthExceeded: the
            request must change.
        ModelForbidden: the API key's scopes exclude the model.
        StoreUnavailable: the models are not known yet.
    """
    check_model(caller, request.checked.model)
    model = await services.models.get(request.checked.model)
    check_task(model, request.url)
    check_length(request.checked, model.max_model_len)
    check_times(request.start_by, request.deadline)
    if request.webhook is not None:
        check_url(request.webhook.url, services.settings.webhooks, "webhook")
    check_prompt(request.body, services.settings.limits)
    settings = services.settings
    check_media(request.checked, request.body, model, settings.media, settings.media_fetch)
    check_complexity(request.checked, services.settings.complexity)
    metadata = request.checked.metadata if request.metadata is None else request.metadata
    check_metadata(metadata, services.settings.limits.metadata_bytes)
    return Submission(
        id=request.id or new_id("job"),
        account=caller.account,
        queue=model.name,
        spec=_spec(request, metadata, caller.account),
        key_id=caller.id,
        budget_key=caller.quota_id,
        weight=caller.weight,
        start_by=request.start_by,
        deadline=request.deadline,
        idempotency_key=request.preferences.idempotency_key,
        watcher=services.hub.id if request.watched else "",
        quota=quota_for(services, caller, request.address),
        lock=request.lock,
    )


async def _submit_fetched(
    services: Services, fetcher: MediaFetcher, submission: Submission, checked: ModelRequest
) -> Admission:
    """Submit with the data of the request's media; a replayed request fetches nothing."""
    settings, spec = services.settings, submission.spec
    media = remote_media(checked, spec.body)
    if media:
        repeated = await services.store.repeated(submission)
        if repeated is not None:
            return Admission(submission, repeated)
        data = await fetcher.fetch(submission.account, media, settings.media.part_bytes)
        body = with_data(spec.body, data)
        check_prompt(body, settings.limits)
        submission = submission._replace(spec=replace(spec, body=body), requested=spec.body)
    return await submit_within_budget(services, submission)


def quota_for(services: Services, caller: Caller, address: str) -> Quota:
    """Return what limits a caller.

    Args:
        services: What the process shares.
        caller: The caller.
        address: The client's address, if it is limited.
    """
    return quota_of(
        caller.account,
        caller.quota_id,
        caller.limits,
        caller.account_limits,
        services.rate_rules,
        address,
    )


def _spec(request: AdmissionRequest, metadata: dict[str, str] | None, account: str) -> JobSpec:
    # OpenAI's clients send null for the default; vLLM refuses it.
    body = {
        name: value
        for name, value in with_tools(request.body).items()
        if value is not None and name not in TRANSPORT
    }
    if "cache_salt" in body:
        # Two accounts that send the same salt must not share a cache.
        salted = f"{account}\n{body['cache_salt']}"
        body["cache_salt"] = hashlib.sha256(salted.encode()).hexdigest()
    return JobSpec(
        url=request.url,
        body=body,
        service_tier=_tier(request.service_tier or request.checked.service_tier),
        metadata=metadata or {},
        on_disconnect=request.on_disconnect,
        request_id=request.request_id,
        response=request.response,
        webhook=request.webhook and request.webhook.url,
        webhook_events=request.webhook.events if request.webhook else (),
        quiet=request.quiet,
        functions=has_functions(request.body),
    )


def _tier(name: str | None) -> ServiceTier:
    return ServiceTier.DEFAULT if name in (None, "auto") else ServiceTier(name)
