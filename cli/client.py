"""The HTTP client of the commands: one server, one key, errors as `Failure`s.

Invariant: every answer is a success or an exception that says why; a stream that breaks off is
taken up again after the last event that arrived.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import httpx2

from cli.failures import Refused, Unreachable, UsageError
from cli.local.state_dir import StateDir
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
    """One server as one key sees it."""

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
        """Return a client for what was asked for, else for the pipeline of this directory.

        Raises:
            Usage: neither is there.
        """
        home = StateDir()
        state = home.read_state()
        if url is None and state is None:
            raise UsageError(
                "no pipeline runs in this directory",
                "start one with `penstock up`, or name a server: --url or PENSTOCK_URL",
            )
        address = url or (state.url if state else "")
        return cls(address, key or home.read_key() or "")

    def close(self) -> None:
        """Give up, also what another thread is waiting for."""
        self._http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET an object; parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._call("GET", path, params=given)

    def post(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """POST an object and return the answer."""
        return self._call("POST", path, json=body, headers=headers)

    def delete(self, path: str) -> None:
        """DELETE something."""
        self._call("DELETE", path)

    def upload(self, name: str, file: BinaryIO) -> dict[str, Any]:
        """Upload a file of requests; it is read while it is sent."""
        given = {"file": (name, file, "application/jsonl")}
        return self._call(
            "POST", "/v1/files", files=given, data={"purpose": "batch"}, timeout=UPLOAD_TIMEOUT
        )

    def download(self, path: str) -> Iterator[tuple[bytes, int]]:
        """Yield a file in pieces, each with how many bytes there are in all."""
        with self._reaching(), self._http.stream("GET", path, timeout=STREAM_TIMEOUT) as response:
            if response.is_error:
                response.read()
                raise Refused(response.status_code, _body(response))
            total = int(response.headers.get("content-length", 0))
            for piece in response.iter_bytes():
                yield piece, total

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        with self._reaching():
            response = self._http.request(method, path, **more)
        if response.is_error:
            raise Refused(response.status_code, _body(response))
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    def stream(self, path: str, after: int = 0) -> Iterator[StreamEvent]:
        """Yield a job's events up to `finished`; goes on where a stream broke off."""
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
                if not event.data:  # only says how soon to come back
                    continue
                data = json.loads(event.data)
                if event.event == EventType.ERROR:  # the server's problem, not the job's
                    raise Refused(data.get("status", UNAVAILABLE), data)
                yield StreamEvent(event.id, event.event, data)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"nothing answers at {self.url}", reason) from error


def _body(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text
