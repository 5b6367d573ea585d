"""From an accepted job to an answer: at once, after a wait, or as a stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.error_handlers import problem_response
from api.json_responses import accepted, job_headers, json_response
from api.streaming.disconnect import ClientDisconnect
from api.streaming.event_stream import EventStream
from billing.pricing.rating import Cost
from intake.admission import Admission
from intake.preferences import Preferences
from intake.request_lifetime import EndReason
from intake.services import Services
from intake.waiting import too_long, wait_result
from intake.watched_job import WatchedJob, cancel_if_abandoned
from jobs.job import Job
from jobs.result import JobResult
from jobs.status import Status
from wire import problems
from wire.views.stream_view import StreamView


@dataclass(frozen=True, slots=True)
class JobFormat:
    """How one route shows its job: whole, or as a stream where the client asked for one.

    `fields` are those that the client knows by another name than the engine.
    """

    whole: Callable[[Job, JobResult, Cost | None], dict[str, Any]]
    stream: Callable[[Job], StreamView] | None
    fields: Mapping[str, str] = field(default_factory=dict)


async def deliver(
    services: Services,
    request: Request,
    admitted: Admission,
    preferences: Preferences,
    form: JobFormat,
) -> Response:
    """Answer a request with its job's result, or with the job where it prefers that."""
    job = admitted.job
    if admitted.replayed:
        job = await services.store.get(job.id, job.account)
    headers = job_headers(admitted.accepted, preferences)
    if preferences.respond_async and preferences.wait_seconds is None:
        return accepted(job, headers)
    watched = WatchedJob.of(job)
    if form.stream is not None and not preferences.respond_async:
        return EventStream(services, watched, form.stream(job), headers=headers)
    limit = services.settings.limits.sync_seconds
    seconds = limit if preferences.wait_seconds is None else preferences.wait_seconds
    result, ended = await wait_result(services, ClientDisconnect(request.receive), watched, seconds)
    if ended is EndReason.TIME and preferences.hands_over:
        job = await services.store.get(job.id, job.account)
        return accepted(job, headers, await services.store.place(job))
    if ended is not None:
        if ended is EndReason.SERVER:
            await cancel_if_abandoned(services, watched)
        late = problems.from_error(too_long(ended, job.id, seconds))
        return _refuse(late, job, request, headers)
    status = Status(result.status or Status.FAILED)
    if status is not Status.COMPLETED:
        ending = problems.from_ending(status, result.error, job.id)
        if ending.param is not None:
            ending = replace(ending, param=form.fields.get(ending.param, ending.param))
        return _refuse(ending, job, request, headers)
    cost = services.cost_cache.of_result(job, result)
    shown = form.whole(job, result, cost.cost)
    return json_response(shown, 200, headers | cost.headers)


def _refuse(
    problem: problems.Problem, job: Job, request: Request, said: Mapping[str, str]
) -> Response:
    """Answer with why there is no result; `said` is what every answer to a submission says."""
    headers = problem.headers
    if problem.kind.status == 504:
        headers = problems.NO_RETRY
    whole = replace(problem, job_id=job.id, headers={**said, **headers})
    return problem_response(whole, request.scope)
