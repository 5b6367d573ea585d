"""JSON responses, encoded by orjson, with the headers of submissions."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from starlette.responses import Response

from billing.pricing.cost_cache import NOT_ENDED
from intake.preferences import Preferences
from intake.submission import Admission, fresh_job
from jobs.fairness import ServiceTier
from jobs.job import Job, JobSpec, OnDisconnect
from jobs.store.transitions import AcceptedJob, QueuePlace, Submission
from wire.rate_limit_headers import rate_limit_headers
from wire.views.job import UNKNOWN_PLACE, job_object

POLL_SECONDS = "1"

#: Placeholders in a cached response for a job's id, time and trace; no model's name has them.
ID, CREATED, TRACE = "@id@", '"@created@"', "@trace@"


def json_response(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Build a JSON response."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def job_headers(accepted: AcceptedJob, preferences: Preferences) -> dict[str, str]:
    """Build the headers of every response to a submission: job id, applied preferences, limits."""
    headers = {"X-Penstock-Job": accepted.id, **preferences.applied}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if accepted.rate_limits:
        headers |= rate_limit_headers(accepted.rate_limits)
    return headers


def accepted(job: Job, headers: Mapping[str, str], place: QueuePlace = UNKNOWN_PLACE) -> Response:
    """Build a 202 response with the job and its location."""
    where = {"Location": f"/v1/jobs/{job.id}", "Retry-After": POLL_SECONDS}
    return json_response(job_object(job, NOT_ENDED, place), 202, where | dict(headers))


def just_accepted(admission: Admission, headers: Mapping[str, str]) -> Response:
    """Build a 202 response with a job that was just accepted.

    Most jobs differ only in id, time and trace. These are filled into a cached response, because
    building each response anew takes a tenth of a submission's time.
    """
    (job_id, _, created, _), submission = admission.accepted, admission.submission
    spec = submission.spec
    if spec.metadata or spec.webhook or spec.retry_of or submission.start_by or submission.deadline:
        return accepted(admission.job, headers)
    where = {"Location": f"/v1/jobs/{job_id}", "Retry-After": POLL_SECONDS, **headers}
    trace_id = spec.trace_id
    rendered = _rendered(
        submission.queue,
        spec.url,
        spec.service_tier,
        spec.on_disconnect,
        traced=trace_id is not None,
    )
    content = rendered.replace(ID, job_id).replace(CREATED, repr(created / 1000))
    if trace_id is not None:
        content = content.replace(TRACE, trace_id)
    return Response(content, 202, where, "application/json")


@lru_cache(maxsize=256)
def _rendered(
    queue: str, url: str, tier: ServiceTier, on_disconnect: OnDisconnect, *, traced: bool
) -> str:
    """Build the job object of a plain submission, with placeholders for what differs."""
    spec = JobSpec(url, {}, tier, on_disconnect=on_disconnect)
    job = fresh_job(Submission(ID, "", queue, spec), AcceptedJob(ID, replayed=False))
    placeholders = {"created_at": CREATED.strip('"'), "trace_id": TRACE if traced else None}
    return orjson.dumps(job_object(job, NOT_ENDED) | placeholders).decode()
