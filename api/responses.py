"""Answers made of JSON: encoded once, by orjson, straight into the response."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from api.costs import OPEN
from api.preferences import Preferences
from api.views.job import NOWHERE, job_object
from jobs.model import Job
from jobs.store import Place

POLL_SECONDS = "1"


def json_response(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), status, headers, "application/json")


def job_headers(job_id: str, preferences: Preferences, *, replayed: bool) -> dict[str, str]:
    """Return what every answer to a submission says about its job."""
    headers = {"X-Penstock-Job": job_id, **preferences.applied}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


def accepted(job: Job, headers: Mapping[str, str], place: Place = NOWHERE) -> Response:
    """Return 202 with the job and where to find it."""
    where = {"Location": f"/v1/jobs/{job.id}", "Retry-After": POLL_SECONDS}
    return json_response(job_object(job, OPEN, place), 202, where | dict(headers))
