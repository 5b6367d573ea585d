"""Submits requests of a batch as jobs, with the current rights and limits of the batch's owner.

Invariant: a job's id follows from the batch and the request's index, so that submitting a request
again finds the job that exists.
"""

import asyncio
from collections.abc import Sequence

from accounts.caller import Caller
from batches.job_window import PendingJob
from batches.line_check import LineRequest
from batches.owner import find_owner
from batches.records import ClaimedBatch
from core.errors import ClientError
from intake.admission import AdmissionRequest, admit
from intake.preferences import NO_PREFERENCES
from intake.responses.response_chat import as_chat
from intake.services import Services
from intake.submission import Admission
from jobs.store.transitions import Lock
from wire.schemas.responses import ResponseRequest


class JobSubmission:
    """Submits the requests of one batch."""

    def __init__(self, services: Services, batch: ClaimedBatch, lock: Lock) -> None:
        """Prepare to submit.

        Args:
            services: What the process shares.
            batch: The batch this process has claimed.
            lock: The lock that the process must hold when a job is accepted.
        """
        self._services = services
        self._batch = batch
        self._lock = lock

    async def submit(
        self, requests: Sequence[tuple[PendingJob, LineRequest]]
    ) -> Sequence[Admission | BaseException]:
        """Submit requests concurrently.

        Returns:
            For each request, what was accepted or the error that refused it.

        Raises:
            StoreUnavailable, DatabaseUnavailable: the owner cannot be looked up; retry later.
        """
        if not requests:
            return []
        try:
            owner = await find_owner(self._services, self._batch.owner)
        except ClientError as error:
            return [error] * len(requests)
        submissions = [self._submit(owner, *request) for request in requests]
        answers: list[Admission | BaseException]
        answers = await asyncio.gather(*submissions, return_exceptions=True)
        return answers

    async def _submit(self, owner: Caller, pending: PendingJob, request: LineRequest) -> Admission:
        body, response = request.body, None
        if isinstance(request.checked, ResponseRequest):
            body, response = await as_chat(self._services, owner.account, request.checked)
        admission_request = AdmissionRequest(
            url=self._batch.endpoint,
            body=body,
            checked=request.checked,
            request_id=pending.ref.request_id,
            preferences=NO_PREFERENCES,
            on_disconnect="continue",
            service_tier="flex",
            deadline=int(self._batch.expires_at.timestamp() * 1000),
            response=response,
            id=pending.job_id,
            quiet=True,  # webhooks report the batch, not each of its jobs
            lock=self._lock,
        )
        return await admit(self._services, owner, admission_request)
