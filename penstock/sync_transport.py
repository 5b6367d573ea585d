"""Sends calls and reads streams, blocking; the decisions are those of the shared modules."""

import time
from collections.abc import Iterator
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


class SyncTransport:
    """The connections of one client."""

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self._http = httpx2.Client(**options.http_options())

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, call: ApiCall[T]) -> T:
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
                    response = self._http.request(call.method, call.path, **more)
                return answer_of(call, response)
            except httpx2.TransportError as error:
                seconds = tries.after_failure(error)
            except ApiError as error:
                seconds = tries.after_refusal(error)
            time.sleep(seconds)

    def follow(self, job_id: str, cursor: StreamCursor) -> Iterator[JobEvent]:
        """Yield a job's events to its end, over any number of connections.

        Raises:
            ApiError: The server refused the stream.
            StreamBrokenError: It broke off too often without an event.
            EventsLostError: Events are no longer kept.
        """
        while not cursor.ended:
            try:
                yield from self._follow_once(job_id, cursor)
                if cursor.ended:
                    return
                seconds = cursor.broken(None)
            except httpx2.TransportError as error:
                seconds = cursor.broken(error)
            except ApiError as error:
                seconds = cursor.refused(error)
            time.sleep(seconds)

    def _follow_once(self, job_id: str, cursor: StreamCursor) -> Iterator[JobEvent]:
        with self._http.stream(
            "GET",
            stream_path(job_id),
            headers=cursor.headers(),
            timeout=self.options.stream_timeout(),
        ) as response:
            if response.status_code == NOTHING_LEFT:
                cursor.nothing_left()
                return
            if not response.is_success:
                raise refusal(response.status_code, headers_of(response), response.read())
            for sent in httpx2.EventSource(response, MAX_EVENT_BYTES):
                event = cursor.read(sent)
                if event is not None:
                    yield event
                if cursor.ended:
                    return

    def results(self, file_id: str) -> Iterator[BatchResult]:
        """Yield the results of one file, each once."""
        cursor = ResultCursor()
        call: ApiCall[None] = ApiCall("GET", content_path(file_id), lambda _: None)
        tries = Tries(self.options.retries, call)
        while True:
            cursor.begin()
            try:
                yield from self._results_once(call.path, cursor)
            except httpx2.TransportError as error:
                seconds = tries.after_failure(error)
            except ApiError as error:
                seconds = tries.after_refusal(error)
            else:
                return
            time.sleep(seconds)

    def _results_once(self, path: str, cursor: ResultCursor) -> Iterator[BatchResult]:
        with self._http.stream("GET", path, timeout=self.options.stream_timeout()) as response:
            if not response.is_success:
                raise refusal(response.status_code, headers_of(response), response.read())
            for piece in response.iter_bytes():
                yield from cursor.feed(piece)
            yield from cursor.end()
