"""Responds to an accepted job: with its result, its stream, or the job itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.http.error_handlers import problem_response
from api.http.json_responses import accepted, job_headers, json_response
from api.streaming.disconnect import ClientDisconnect
from api.streaming.event_stream import EventStream
from billing.pricing.rating import Cost
from intake.lifetime.request_lifetime import EndReason
from intake.preferences import Preferences
from intake.services import Services
from intake.submission import Admission
from intake.waiting import wait_ended_error, wait_result
from intake.watched_job import WatchedJob, cancel_if_abandoned
from jobs.job import Job
from jobs.result import JobResult
from jobs.status import Status
from wire import error_bodies
from wire.views.stream_view import StreamView


@dataclass(frozen=True, slots=True)
class JobFormat:
    """How one route shows its job.

    Attributes:
        whole: Builds the response object of a completed job.
        stream: Creates the view for streaming; None if the client did not ask for a stream.
        fields: Names of fields in the client's body by their names in the engine's body, for the
            `param` of errors.
        opens_at_once: Whether a stream sends its status before the job has any output.
    """

    whole: Callable[[Job, JobResult, Cost | None], dict[str, Any]]
    stream: Callable[[Job], StreamView] | None
    fields: Mapping[str, str] = field(default_factory=dict)
    opens_at_once: bool = False

    def describe_end(
        self, job_id: str, status: Status, error: Mapping[str, Any] | None
    ) -> error_bodies.Problem:
        """Describe why a job ended without a result, with the client's name of the field."""
        ending = error_bodies.from_ending(status, error, job_id)
        if ending.param is None:
            return ending
        return replace(ending, param=self.fields.get(ending.param, ending.param))


async def respond_with_job(
    services: Services,
    request: Request,
    admission: Admission,
    preferences: Preferences,
    job_format: JobFormat,
) -> Response:
    """Respond to a submission as the client prefers.

    Args:
        services: The process's services.
        request: The submission.
        admission: The accepted job.
        preferences: The client's Prefer headers.
        job_format: How the route shows the job.

    Returns:
        The result, the stream, 202 with the job, or a problem if the job has no result.
    """
    job = admission.job
    if admission.replayed:
        job = await services.store.get(job.id, job.account)
    headers = job_headers(admission.accepted, preferences)
    if preferences.respond_async and preferences.wait_seconds is None:
        return accepted(job, headers)
    watched = WatchedJob.of(job)
    if job_format.stream is not None and not preferences.respond_async:
        describe = None if job_format.opens_at_once else partial(job_format.describe_end, job.id)
        return EventStream(
            services, watched, job_format.stream(job), headers=headers, describe_end=describe
        )
    limit = services.settings.limits.sync_seconds
    seconds = limit if preferences.wait_seconds is None else preferences.wait_seconds
    result, ended = await wait_result(services, ClientDisconnect(request.receive), watched, seconds)
    if ended is EndReason.TIME and preferences.accepts_job:
        job = await services.store.get(job.id, job.account)
        return accepted(job, headers, await services.store.place(job))
    if ended is not None:
        if ended is EndReason.SERVER:
            await cancel_if_abandoned(services, watched)
        timeout = error_bodies.from_error(wait_ended_error(ended, job.id, seconds))
        return _problem(timeout, job, request, headers)
    status = Status(result.status or Status.FAILED)
    if status is not Status.COMPLETED:
        ending = job_format.describe_end(job.id, status, result.error)
        return _problem(ending, job, request, headers)
    cost = services.cost_cache.of_result(job, result)
    shown = job_format.whole(job, result, cost.cost)
    return json_response(shown, 200, headers | cost.headers)


def _problem(
    problem: error_bodies.Problem, job: Job, request: Request, submission_headers: Mapping[str, str]
) -> Response:
    """Respond with a problem and the headers of every response to a submission."""
    headers = problem.headers
    if problem.kind.status == 504:
        headers = error_bodies.NO_RETRY
    whole = replace(problem, job_id=job.id, headers={**submission_headers, **headers})
    return problem_response(whole, request.scope)
