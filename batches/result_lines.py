"""Makes a request's line of the output: its answer, or the reason why there is none.

Invariant: pure. A line with an answer of status 200 belongs in the output file, every other line
in the error file.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from billing.pricing.rating import Cost
from core.errors import BudgetExceeded, ClientError, JobGone, ModelNotFound, PipelineError
from core.json_text import on_one_line
from jobs.archive.archived_job import ArchivedJob
from wire.error_bodies import Problem, from_ending, from_error
from wire.views.job import result_object


class NotRunReason(NamedTuple):
    """Why a request was not run to its end."""

    code: str
    message: str


EXPIRED = NotRunReason(
    "batch_expired", "The completion window ended before this request was finished"
)
CANCELLED = NotRunReason(
    "batch_cancelled", "The batch was cancelled before this request was finished"
)


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """A request's line of the output.

    Attributes:
        index: The request's index in the batch.
        line: The line, with its end.
        answered: Whether it is an answer.
        expired: Whether the completion window ended before the request was finished.
    """

    index: int
    line: bytes
    answered: bool
    expired: bool = False


@dataclass(frozen=True, slots=True)
class RequestRef:
    """Identifies a request of a batch, and makes its line."""

    index: int
    custom_id: str
    request_id: str

    def answered(self, archived: ArchivedJob, cost: Cost | None) -> LineOutcome:
        """Return the line of a completed job."""
        body = result_object(archived.job(), archived.outcome(), cost)
        response = {"status_code": 200, "request_id": self.request_id, "body": body}
        return self._outcome(response, None, answered=True)

    def ended(self, archived: ArchivedJob) -> LineOutcome:
        """Return the line of a job that ended without an answer."""
        job = archived.job()
        return self._error(from_ending(job.status, job.error, job.id))

    def refused(self, error: PipelineError) -> LineOutcome:
        """Return the line of a request that did not become a job."""
        return self._error(from_error(error))

    def lost(self) -> LineOutcome:
        """Return the line of a job whose result no longer exists."""
        return self.refused(JobGone("The job was erased before its result was read"))

    def not_run(self, reason: NotRunReason) -> LineOutcome:
        """Return the line of a request that the batch's end prevented from finishing."""
        outcome = self._outcome(None, reason._asdict(), answered=False)
        return replace(outcome, expired=reason == EXPIRED)

    def _error(self, problem: Problem) -> LineOutcome:
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
        return LineOutcome(self.index, on_one_line(orjson.dumps(line)) + b"\n", answered)


def is_final(error: PipelineError) -> bool:
    """Return whether a refusal stays the same if the request is submitted again later.

    An unknown model is a temporary refusal: the model existed when the batch was validated, and
    its workers register it again if Redis lost its data.
    """
    temporary = isinstance(error, BudgetExceeded | ModelNotFound)
    return isinstance(error, ClientError) and not temporary
