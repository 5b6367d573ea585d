"""AsyncBatches, with asyncio: many requests in one file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from penstock import api_calls
from penstock.api_calls import Json
from penstock.api_objects import BatchInfo, BatchResult, FileInfo
from penstock.async_transport import AsyncTransport
from penstock.deadline import Deadline
from penstock.errors import BatchFailedError


class AsyncBatches:
    """The batches of one client."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(self, content: bytes | str | Path, *, name: str | None = None) -> FileInfo:
        """Upload a file of requests, one JSON object per line.

        Args:
            content: Its path, or its bytes.
            name: Its name at the server; by default that of the path.
        """
        return await self._transport.send(api_calls.upload(content, name))

    async def create(
        self,
        file: FileInfo | str,
        *,
        endpoint: str = api_calls.CHAT,
        completion_window: str = "24h",
        metadata: Json | None = None,
        idempotency_key: str | None = None,
    ) -> BatchInfo:
        """Create a batch of an uploaded file; it begins by itself.

        Args:
            file: The file or its id.
            endpoint: The route of all its requests.
            completion_window: The time after which it expires, `24h` to `7d`.
            metadata: Your own fields.
            idempotency_key: The same key returns the same batch; by default a new one.
        """
        return await self._transport.send(
            api_calls.create_batch(file, endpoint, completion_window, metadata, idempotency_key)
        )

    async def get(self, batch: BatchInfo | str) -> BatchInfo:
        """Return a batch as it is now."""
        return await self._transport.send(api_calls.read_batch(batch))

    async def wait(self, batch: BatchInfo | str, *, max_seconds: float | None = None) -> BatchInfo:
        """Return a batch once it has ended, whatever its status.

        Raises:
            WaitTimeoutError: `max_seconds` are over; the batch continues.
        """
        deadline = Deadline(max_seconds)
        while True:
            found = await self.get(batch)
            if found.ended:
                return found
            deadline.check(found.id, found.status)
            await asyncio.sleep(deadline.poll_seconds())

    async def results(self, batch: BatchInfo | str) -> AsyncIterator[BatchResult]:
        """Wait until a batch has ended; return the result of each request once, in any order.

        Raises:
            BatchFailedError: Lines of its file are invalid, so no request ran.
        """
        ended = await self.wait(batch)
        if ended.status == "failed":
            raise BatchFailedError(ended)
        for file_id in ended.result_files:
            async for result in self._transport.results(file_id):
                yield result

    async def cancel(self, batch: BatchInfo | str) -> BatchInfo:
        """Cancel a batch; the results so far are kept."""
        return await self._transport.send(api_calls.cancel_batch(batch))

    async def list(self) -> AsyncIterator[BatchInfo]:
        """Return the batches of the account, newest first, page by page as they are read."""
        after: str | None = None
        while True:
            page = await self._transport.send(api_calls.list_batches(after))
            for item in page.items:
                yield item
            if page.after is None:
                return
            after = page.after
