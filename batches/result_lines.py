"""One line of output for each request: its answer, or why there is none.

Invariant: pure. What has an answer with status 200 belongs into the output file, everything else
into the error file.
"""

from dataclasses import dataclass, replace
from typing import Any

import orjson

from billing.pricing.rating import Cost
from core.errors import BudgetExceeded, ClientError, JobGone, ModelNotFound, PipelineError
from jobs.archive.archived_job import ArchivedJob
from wire.problems import Problem, from_ending, from_error
from wire.views.job import result_object

EXPIRED = ("batch_expired", "the completion window ended before this request was done")
CANCELLED = ("batch_cancelled", "the batch was cancelled before this request was done")


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """A request's line; whether it is an answer, and whether the completion window ended first."""

    index: int
    line: bytes
    answered: bool
    expired: bool = False


@dataclass(frozen=True, slots=True)
class RequestRef:
    """Which request of a batch it is about."""

    index: int
    custom_id: str
    request_id: str

    def answered(self, archived: ArchivedJob, cost: Cost | None) -> LineOutcome:
        """Return the answer of a completed job."""
        body = result_object(archived.job(), archived.outcome(), cost)
        response = {"status_code": 200, "request_id": self.request_id, "body": body}
        return self._outcome(response, None, answered=True)

    def ended(self, archived: ArchivedJob) -> LineOutcome:
        """Return why a job that ended otherwise has no answer."""
        job = archived.job()
        return self._refused(from_ending(job.status, job.error, job.id))

    def refused(self, error: PipelineError) -> LineOutcome:
        """Return why a request did not become a job."""
        return self._refused(from_error(error))

    def lost(self) -> LineOutcome:
        """Return that what a job produced is kept nowhere any more."""
        return self.refused(JobGone("this request's job was erased before its result was read"))

    def undone(self, why: tuple[str, str]) -> LineOutcome:
        """Return that the batch ended before the request did."""
        code, message = why
        outcome = self._outcome(None, {"code": code, "message": message}, answered=False)
        return replace(outcome, expired=why == EXPIRED)

    def _refused(self, problem: Problem) -> LineOutcome:
        response = {
            "status_code": problem.openai_status,
            "request_id": self.request_id,
            "body": problem.as_openai(),
        }
        return self._outcome(response, None, answered=False)

    def _outcome(
        self, response: dict[str, Any] | None, error: dict[str, Any] | None, *, answered: bool
    ) -> LineOutcome:
        line = {
            "id": self.request_id,
            "custom_id": self.custom_id,
            "response": response,
            "error": error,
        }
        return LineOutcome(self.index, orjson.dumps(line) + b"\n", answered)


def is_final(error: PipelineError) -> bool:
    """Return whether a refusal stays one however long one waits.

    A model was there when the batch was validated: a Redis that lost its data hears of it again.
    """
    passing = isinstance(error, BudgetExceeded | ModelNotFound)
    return isinstance(error, ClientError) and not passing
