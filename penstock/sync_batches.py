"""Batches, blocking: many requests in one file."""

import time
from collections.abc import Iterator
from pathlib import Path

from penstock import api_calls
from penstock.api_calls import Json
from penstock.api_objects import BatchInfo, BatchResult, FileInfo
from penstock.deadline import Deadline
from penstock.errors import BatchFailedError
from penstock.sync_transport import SyncTransport


class Batches:
    """The batches of one client."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def upload(self, content: bytes | str | Path, *, name: str | None = None) -> FileInfo:
        """Upload a file of requests, one JSON object per line.

        Args:
            content: Its path, or its bytes.
            name: Its name at the server; by default that of the path.
        """
        return self._transport.send(api_calls.upload(content, name))

    def create(
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
        return self._transport.send(
            api_calls.create_batch(file, endpoint, completion_window, metadata, idempotency_key)
        )

    def get(self, batch: BatchInfo | str) -> BatchInfo:
        """Return a batch as it is now."""
        return self._transport.send(api_calls.read_batch(batch))

    def wait(self, batch: BatchInfo | str, *, max_seconds: float | None = None) -> BatchInfo:
        """Return a batch once it has ended, whatever its status.

        Raises:
            WaitTimeoutError: `max_seconds` are over; the batch continues.
        """
        deadline = Deadline(max_seconds)
        while True:
            found = self.get(batch)
            if found.ended:
                return found
            deadline.check(found.id, found.status)
            time.sleep(deadline.poll_seconds())

    def results(self, batch: BatchInfo | str) -> Iterator[BatchResult]:
        """Wait until a batch has ended; return the result of each request once, in any order.

        Raises:
            BatchFailedError: Lines of its file are invalid, so no request ran.
        """
        ended = self.wait(batch)
        if ended.status == "failed":
            raise BatchFailedError(ended)
        for file_id in ended.result_files:
            yield from self._transport.results(file_id)

    def cancel(self, batch: BatchInfo | str) -> BatchInfo:
        """Cancel a batch; the results so far are kept."""
        return self._transport.send(api_calls.cancel_batch(batch))

    def list(self) -> Iterator[BatchInfo]:
        """Return the batches of the account, newest first, page by page as they are read."""
        after: str | None = None
        while True:
            page = self._transport.send(api_calls.list_batches(after))
            yield from page.items
            if page.after is None:
                return
            after = page.after
