"""Answers made of JSON: encoded once, by orjson, straight into the response."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from starlette.responses import Response

from billing.pricing.cost_cache import OPEN
from intake.admission import Admission, fresh_job
from intake.preferences import Preferences
from jobs.fairness import ServiceTier
from jobs.job import Job, JobSpec, OnDisconnect
from jobs.store.transitions import AcceptedJob, QueuePlace, Submission
from wire.rate_limit_headers import rate_limit_headers
from wire.views.job import UNKNOWN_PLACE, job_object

POLL_SECONDS = "1"

#: Stand in a rendered answer where each job has its own; no model's name can contain them.
ID, CREATED = "@id@", '"@created@"'


def json_response(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def job_headers(accepted: AcceptedJob, preferences: Preferences) -> dict[str, str]:
    """Return what every answer to a submission says about its job, and about the limits."""
    headers = {"X-Penstock-Job": accepted.id, **preferences.applied}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if accepted.standings:
        headers |= rate_limit_headers(accepted.standings)
    return headers


def accepted(job: Job, headers: Mapping[str, str], place: QueuePlace = UNKNOWN_PLACE) -> Response:
    """Return 202 with the job and where to find it."""
    where = {"Location": f"/v1/jobs/{job.id}", "Retry-After": POLL_SECONDS}
    return json_response(job_object(job, OPEN, place), 202, where | dict(headers))


def just_accepted(admitted: Admission, headers: Mapping[str, str]) -> Response:
    """Return 202 with a job that was accepted this instant.

    Most jobs differ in nothing but id and time, which are filled into what was rendered before:
    to render each anew is a tenth of a submission.
    """
    (job_id, _, created, _), submission = admitted.accepted, admitted.submission
    spec = submission.spec
    if spec.metadata or spec.webhook or spec.retry_of or submission.start_by or submission.deadline:
        return accepted(admitted.job, headers)
    where = {"Location": f"/v1/jobs/{job_id}", "Retry-After": POLL_SECONDS, **headers}
    rendered = _rendered(submission.queue, spec.url, spec.service_tier, spec.on_disconnect)
    content = rendered.replace(ID, job_id).replace(CREATED, repr(created / 1000))
    return Response(content, 202, where, "application/json")


@lru_cache(maxsize=256)
def _rendered(queue: str, url: str, tier: ServiceTier, on_disconnect: OnDisconnect) -> str:
    """Return the job object of a plain submission, with ID and CREATED for its own."""
    spec = JobSpec(url, {}, tier, on_disconnect=on_disconnect)
    job = fresh_job(Submission(ID, "", queue, spec), AcceptedJob(ID, replayed=False))
    return orjson.dumps(job_object(job, OPEN) | {"created_at": CREATED.strip('"')}).decode()
