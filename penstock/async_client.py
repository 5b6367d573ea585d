"""The client, with asyncio: one method for each thing that one does with jobs."""

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from penstock import api_calls
from penstock.api_calls import JobOptions, Json, identifier
from penstock.api_objects import JobEvent, JobInfo
from penstock.async_batches import AsyncBatches
from penstock.async_transport import AsyncTransport
from penstock.connection import ConnectionOptions
from penstock.deadline import Deadline
from penstock.errors import job_error
from penstock.retries import RetryPolicy
from penstock.stream_cursor import StreamCursor

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class AsyncPenstock:
    """A client of one server with one key. It belongs to one event loop.

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
        self._transport = AsyncTransport(options)
        self.batches = AsyncBatches(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def submit(self, body: Json, **options: Unpack[JobOptions]) -> JobInfo:
        """Submit a job and return it as accepted.

        A submission that is sent again after a lost answer does not run twice: it has an
        idempotency key.

        Args:
            body: The body of an OpenAI request.
            options: See `JobOptions`.
        """
        return await self._transport.send(api_calls.submit(body, options))

    async def run(
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
        job = await self.wait(await self.submit(body, **options), max_seconds=max_seconds)
        if job.status != "completed":
            raise job_error(job)
        return job

    async def stream(
        self, job: JobInfo | str | Json, *, after: int = 0, **options: Unpack[JobOptions]
    ) -> AsyncIterator[JobEvent]:
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
            job = await self.submit(job, **options)
        job_id = identifier(job)
        cursor = StreamCursor(job_id, after, self._transport.options.retries)
        async for event in self._transport.follow(job_id, cursor):
            yield event
        if not cursor.completed:
            job = await self.get(job_id)
            if job.status != "completed":
                raise job_error(job)

    async def get(self, job: JobInfo | str) -> JobInfo:
        """Return a job as it is now, with its result if it is completed."""
        return await self._transport.send(api_calls.read_job(job))

    async def wait(self, job: JobInfo | str, *, max_seconds: float | None = None) -> JobInfo:
        """Return a job once it has ended, whatever its status.

        Raises:
            WaitTimeoutError: `max_seconds` are over; the job continues.
        """
        deadline = Deadline(max_seconds)
        while True:
            found = await self._transport.send(
                api_calls.read_job(job, deadline.long_poll_seconds())
            )
            if found.ended:
                return found
            deadline.check(found.id, found.status)

    async def cancel(self, job: JobInfo | str) -> JobInfo:
        """Cancel a job; a job that runs may take a moment to stop."""
        return await self._transport.send(api_calls.cancel_job(job))

    async def retry(self, job: JobInfo | str) -> JobInfo:
        """Run a job without a result again, as the new job that is returned."""
        return await self._transport.send(api_calls.retry_job(job))

    async def list(self, *, status: str | None = None) -> AsyncIterator[JobInfo]:
        """Return the jobs of the account, newest first, page by page as they are read."""
        after: str | None = None
        while True:
            page = await self._transport.send(api_calls.list_jobs(status, after))
            for item in page.items:
                yield item
            if page.after is None:
                return
            after = page.after

    def as_openai(self, **options: Any) -> "AsyncOpenAI":
        """Return OpenAI's own client for this server and key.

        Args:
            options: Further arguments of `openai.AsyncOpenAI`.

        Raises:
            ImportError: The package `openai` is not installed (the extra `openai`).
        """
        from openai import AsyncOpenAI  # noqa: PLC0415 - an optional package

        return AsyncOpenAI(**self._transport.options.openai_options(), **options)
