"""The client, blocking: one method for each thing that one does with jobs."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from penstock import api_calls
from penstock.api_calls import JobOptions, Json, identifier
from penstock.api_objects import JobEvent, JobInfo
from penstock.connection import ConnectionOptions
from penstock.deadline import Deadline
from penstock.errors import job_error
from penstock.retries import RetryPolicy
from penstock.stream_cursor import StreamCursor
from penstock.sync_batches import Batches
from penstock.sync_transport import SyncTransport

if TYPE_CHECKING:
    from openai import OpenAI


class Penstock:
    """A client of one server with one key. It may be shared by threads.

    Every method raises an `ApiError` if the server refuses, and a `ConnectionFailedError` if the
    server does not answer in all tries.

    Attributes:
        batches: Uploads files, creates batches and reads their results.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        retries: RetryPolicy | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Open a client.

        Args:
            url: Where the API is, for example `https://penstock.example.com`; by default
                `PENSTOCK_URL`.
            key: The API key; by default `PENSTOCK_API_KEY`.
            retries: How often and when a call is sent again.
            timeout: Seconds without a byte of an answer until a try has failed.

        Raises:
            ValueError: `url` or `key` is missing.
        """
        options = ConnectionOptions.given(url, key, retries, timeout)
        self._transport = SyncTransport(options)
        self.batches = Batches(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def submit(self, body: Json, **options: Unpack[JobOptions]) -> JobInfo:
        """Submit a job and return it as accepted.

        A submission that is sent again after a lost answer does not run twice: it has an
        idempotency key.

        Args:
            body: The body of an OpenAI request.
            options: See `JobOptions`.
        """
        return self._transport.send(api_calls.submit(body, options))

    def run(
        self, body: Json, *, max_seconds: float | None = None, **options: Unpack[JobOptions]
    ) -> JobInfo:
        """Submit a job and return it with its result.

        Args:
            body: The body of an OpenAI request.
            max_seconds: The longest wait.
            options: See `JobOptions`.

        Raises:
            JobUnsuccessfulError: It failed, was cancelled or expired.
            WaitTimeoutError: The time is over; the job continues.
        """
        job = self.wait(self.submit(body, **options), max_seconds=max_seconds)
        if job.status != "completed":
            raise job_error(job)
        return job

    def stream(
        self, job: JobInfo | str | Json, *, after: int = 0, **options: Unpack[JobOptions]
    ) -> Iterator[JobEvent]:
        """Return the events of a job, each once and in order, as they come.

        After any disconnect the stream continues with the next event. After the event `restarted`
        the text before it must be discarded.

        Args:
            job: The job or its id; or the body of a request, which is submitted first.
            after: The number of the event to continue after.
            options: With a body, see `JobOptions`.

        Raises:
            JobUnsuccessfulError: After the last event: the job has no result.
            StreamBrokenError: It broke off too often without a new event.
            EventsLostError: Events are no longer kept.
        """
        if isinstance(job, Mapping):
            job = self.submit(job, **options)
        return self._follow(identifier(job), after)

    def _follow(self, job_id: str, after: int) -> Iterator[JobEvent]:
        cursor = StreamCursor(job_id, after, self._transport.options.retries)
        yield from self._transport.follow(job_id, cursor)
        if not cursor.completed:
            job = self.get(job_id)
            if job.status != "completed":
                raise job_error(job)

    def get(self, job: JobInfo | str) -> JobInfo:
        """Return a job as it is now, with its result if it is completed."""
        return self._transport.send(api_calls.read_job(job))

    def wait(self, job: JobInfo | str, *, max_seconds: float | None = None) -> JobInfo:
        """Return a job once it has ended, whatever its status.

        Raises:
            WaitTimeoutError: `max_seconds` are over; the job continues.
        """
        deadline = Deadline(max_seconds)
        while True:
            found = self._transport.send(api_calls.read_job(job, deadline.long_poll_seconds()))
            if found.ended:
                return found
            deadline.check(found.id, found.status)

    def cancel(self, job: JobInfo | str) -> JobInfo:
        """Cancel a job; a job that runs may take a moment to stop."""
        return self._transport.send(api_calls.cancel_job(job))

    def retry(self, job: JobInfo | str) -> JobInfo:
        """Run a job without a result again, as the new job that is returned."""
        return self._transport.send(api_calls.retry_job(job))

    def list(self, *, status: str | None = None) -> Iterator[JobInfo]:
        """Return the jobs of the account, newest first, page by page as they are read."""
        after: str | None = None
        while True:
            page = self._transport.send(api_calls.list_jobs(status, after))
            yield from page.items
            if page.after is None:
                return
            after = page.after

    def as_openai(self, **options: Any) -> "OpenAI":
        """Return OpenAI's own client for this server and key.

        Args:
            options: Further arguments of `openai.OpenAI`.

        Raises:
            ImportError: The package `openai` is not installed (the extra `openai`).
        """
        from openai import OpenAI  # noqa: PLC0415 - an optional package

        return OpenAI(**self._transport.options.openai_options(), **options)
