"""The HTTP client of the commands: one server, one key, errors as `Failure`s.

Invariant: a call returns a success or raises an exception that says why; a stream that breaks off
is continued after the last event that arrived.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import httpx2

from cli.connect.state_dir import StateDir
from cli.terminal.failures import Refused, Unreachable, UsageError
from jobs.events import EventType

TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
STREAM_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)  # pings come every 15 s
UPLOAD_TIMEOUT = httpx2.Timeout(300.0, connect=5.0)
RECONNECTS = 5
UNAVAILABLE = 503
RECONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a job's log."""

    seq: str
    type: str
    data: dict[str, Any]


class Client:
    """A client of one server with one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self.key = key
        local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT,
            trust_env=not local,  # a proxy cannot reach this machine's loopback
        )

    @classmethod
    def open(cls, url: str | None, key: str | None) -> Self:
        """Return a client for the given server and key, by default those of this directory.

        This directory's key is sent to its own pipeline only: it is an operator's.

        Raises:
            UsageError: no server is given, and no pipeline runs in this directory; or another
                server is given, and no key.
        """
        state_dir = StateDir()
        state = state_dir.running()
        if url is None and state is None:
            raise UsageError(
                "no pipeline runs in this directory",
                "start one with `penstock up`, or name a server: --url or PENSTOCK_URL",
            )
        own = state.url.rstrip("/") if state is not None else None
        address = (url or own or "").rstrip("/")
        if key:
            return cls(address, key)
        if address != own:
            raise UsageError(
                f"a key for {shown_url(address)} is needed: --key or PENSTOCK_API_KEY",
                "the key in .penstock is only sent to the pipeline that runs in this directory"
                + (f", {own}" if own else ""),
            )
        return cls(address, state_dir.read_key() or "")

    def close(self) -> None:
        """Close all connections, also those that other threads use."""
        self._http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET an object; parameters that are None are not sent."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._call("GET", path, params=given)

    def post(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """POST an object and return the answer."""
        return self._call("POST", path, json=body, headers=headers)

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a PATCH with a JSON body; return its answer."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str, **params: Any) -> dict[str, Any]:
        """DELETE something; return the answer, which may be empty."""
        return self._call("DELETE", path, params=params)

    def upload(self, name: str, file: BinaryIO) -> dict[str, Any]:
        """Upload a file of requests; it is read while it is sent, not before."""
        given = {"file": (name, file, "application/jsonl")}
        return self._call(
            "POST", "/v1/files", files=given, data={"purpose": "batch"}, timeout=UPLOAD_TIMEOUT
        )

    def download(self, path: str) -> Iterator[tuple[bytes, int]]:
        """Yield a file in pieces, each with the size of the whole file in bytes (0: unknown)."""
        with (
            self._transport_errors(),
            self._http.stream("GET", path, timeout=STREAM_TIMEOUT) as response,
        ):
            if response.is_error:
                response.read()
                raise Refused(response.status_code, _body(response))
            total = int(response.headers.get("content-length", 0))
            for piece in response.iter_bytes():
                yield piece, total

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        with self._transport_errors():
            response = self._http.request(method, path, **more)
        if response.is_error:
            raise Refused(response.status_code, _body(response))
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    def stream(self, path: str, after: int = 0) -> Iterator[StreamEvent]:
        """Yield a job's events up to `finished`; reconnects when the stream breaks off.

        Args:
            path: The stream's path.
            after: The sequence number to continue after.

        Raises:
            Unreachable: it broke off too often.
            Refused: the server refused it.
        """
        last, tries = str(after), 1
        while True:
            try:
                for event in self._stream_once(path, last):
                    last, tries = event.seq or last, RECONNECTS
                    yield event
                    if event.type == EventType.FINISHED:
                        return
                reason = "it ended before the job did"
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            except Refused as error:
                if error.status != UNAVAILABLE:
                    raise
                reason = error.title
            tries -= 1
            if not tries:
                raise Unreachable(f"the stream from {self.url} broke off", reason)
            time.sleep(RECONNECT_SECONDS)

    def _stream_once(self, path: str, last: str) -> Iterator[StreamEvent]:
        headers = {"Last-Event-ID": last} if last != "0" else {}
        with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as response:
            if response.is_error:
                response.read()
                raise Refused(response.status_code, _body(response))
            for event in httpx2.EventSource(response):
                if not event.data:  # it only sets the time until a reconnect
                    continue
                data = json.loads(event.data)
                if event.event == EventType.ERROR:  # the stream failed, not the job
                    raise Refused(data.get("status", UNAVAILABLE), data)
                yield StreamEvent(event.id, event.event, data)

    @contextmanager
    def _transport_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no server answers at {self.url}", reason) from error


def shown_url(url: str) -> str:
    """Return a URL without the user and password that may be in it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _body(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text
