"""Sends calls and reads streams, with asyncio; the decisions are those of the shared modules."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import httpx2

from penstock.api_calls import ApiCall, content_path, stream_path
from penstock.api_objects import BatchResult, JobEvent
from penstock.connection import (
    ConnectionOptions,
    answer_of,
    headers_of,
    opened,
    request_options,
)
from penstock.errors import ApiError
from penstock.result_cursor import ResultCursor
from penstock.retries import Tries, refusal
from penstock.stream_cursor import MAX_EVENT_BYTES, NOTHING_LEFT, StreamCursor

T = TypeVar("T")


class AsyncTransport:
    """The connections of one client."""

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self._http = httpx2.AsyncClient(**options.http_options())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, call: ApiCall[T]) -> T:
        """Send a call until it is answered.

        Raises:
            ApiError: The server refused it.
            ConnectionFailedError: The server did not answer.
        """
        tries = Tries(self.options.retries, call)
        while True:
            try:
                with opened(call.file) as content:
                    more = request_options(call, content, self.options.timeout)
                    response = await self._http.request(call.method, call.path, **more)
                return answer_of(call, response)
            except httpx2.TransportError as error:
                seconds = tries.after_failure(error)
            except ApiError as error:
                seconds = tries.after_refusal(error)
            await asyncio.sleep(seconds)

    async def follow(self, job_id: str, cursor: StreamCursor) -> AsyncIterator[JobEvent]:
        """Yield a job's events to its end, over any number of connections.

        Raises:
            ApiError: The server refused the stream.
            StreamBrokenError: It broke off too often without an event.
            EventsLostError: Events are no longer kept.
        """
        while not cursor.ended:
            try:
                async for event in self._follow_once(job_id, cursor):
                    yield event
                if cursor.ended:
                    return
                seconds = cursor.broken(None)
            except httpx2.TransportError as error:
                seconds = cursor.broken(error)
            except ApiError as error:
                seconds = cursor.refused(error)
            await asyncio.sleep(seconds)

    async def _follow_once(self, job_id: str, cursor: StreamCursor) -> AsyncIterator[JobEvent]:
        async with self._http.stream(
            "GET",
            stream_path(job_id),
            headers=cursor.headers(),
            timeout=self.options.stream_timeout(),
        ) as response:
            if response.status_code == NOTHING_LEFT:
                cursor.nothing_left()
                return
            if not response.is_success:
                raise refusal(response.status_code, headers_of(response), await response.aread())
            async for sent in httpx2.EventSource(response, MAX_EVENT_BYTES):
                event = cursor.read(sent)
                if event is not None:
                    yield event
                if cursor.ended:
                    return

    async def results(self, file_id: str) -> AsyncIterator[BatchResult]:
        """Yield the results of one file, each once."""
        cursor = ResultCursor()
        call: ApiCall[None] = ApiCall("GET", content_path(file_id), lambda _: None)
        tries = Tries(self.options.retries, call)
        while True:
            cursor.begin()
            try:
                async for result in self._results_once(call.path, cursor):
                    yield result
            except httpx2.TransportError as error:
                seconds = tries.after_failure(error)
            except ApiError as error:
                seconds = tries.after_refusal(error)
            else:
                return
            await asyncio.sleep(seconds)

    async def _results_once(self, path: str, cursor: ResultCursor) -> AsyncIterator[BatchResult]:
        async with self._http.stream(
            "GET", path, timeout=self.options.stream_timeout()
        ) as response:
            if not response.is_success:
                raise refusal(response.status_code, headers_of(response), await response.aread())
            async for piece in response.aiter_bytes():
                for result in cursor.feed(piece):
                    yield result
            for result in cursor.end():
                yield result
