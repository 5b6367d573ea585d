"""Builds what `submit.lua` takes, and the fingerprint behind an idempotency key."""

import hashlib
from dataclasses import replace

import orjson

from core.settings.tree import Settings
from jobs.fairness import estimated_tokens
from jobs.store.load_shedding import QueueBounds
from jobs.store.script_args import SubmitArgs
from jobs.store.transitions import NO_LOCK, Submission


def submit_args(job: Submission, bounds: QueueBounds, settings: Settings) -> SubmitArgs:
    """Return the named arguments of a submission; those of its reservation's scopes follow."""
    body = orjson.dumps(job.spec.body)
    quota, lock = job.quota, job.lock or NO_LOCK
    balance, month, nanos = job.reservation.head if job.reservation else ("", "", "")
    return SubmitArgs(
        job_id=job.id,
        account=job.account,
        queue=job.queue,
        tier=job.spec.service_tier.rank,
        cost=estimated_tokens(job.spec.body, len(body)),
        weight=job.weight,
        spec=job.spec.encode(),
        idempotency_key=job.idempotency_key,
        body_hash=fingerprint(job, body) if job.idempotency_key else "",
        idempotency_ms=settings.retention.idempotency_seconds * 1000,
        max_queued=bounds.queued,
        max_queued_per_account=_smaller(
            settings.queue.max_queued_per_account, quota.account_queued
        ),
        start_by=job.start_by or "",
        deadline=job.deadline or "",
        max_running=_smaller(job.max_running, quota.account_running),
        watcher=job.watcher,
        key_id=job.key_id,
        body=body,
        quota_json=quota.script_args,
        max_failures=settings.limits.failures_per_minute,
        max_ahead=bounds.ahead,
        lock=lock.name,
        lock_holder=lock.holder,
        balance=balance,
        month=month,
        nanos=nanos,
    )


def fingerprint(job: Submission, body: bytes) -> str:
    """Hash the request that an idempotency key stands for.

    Request id, trace and limits in time are left out, because a repeat states its own.
    Media count by their URLs, because what is found there may change.
    """
    fields = orjson.loads(replace(job.spec, traceparent=None).encode())
    fields.pop("request_id")
    sent = orjson.loads(body) if job.requested is None else job.requested
    requested = [job.queue, fields, sent]
    return hashlib.sha256(orjson.dumps(requested, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _smaller(first: int, second: int) -> int:
    """Return the smaller of two limits, of which 0 is none."""
    return min(first, second) if first and second else first or second
