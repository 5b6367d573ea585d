"""Where the server is and how it is reached: what both transports share.

Invariant: the key is sent to the given server only; redirects are not followed.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import urlsplit

import httpx2

from penstock.api_calls import ApiCall, FilePart
from penstock.errors import PenstockError
from penstock.retries import RetryPolicy, refusal

T = TypeVar("T")

URL_VARIABLE = "PENSTOCK_URL"
KEY_VARIABLE = "PENSTOCK_API_KEY"
CONNECT_SECONDS = 5.0
#: The server pings a stream every 15 s.
STREAM_SECONDS = 45.0
UPLOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """One server, one key.

    Attributes:
        url: Where the API is, without a path.
        timeout: Seconds without a byte of an answer until a try has failed.
    """

    url: str
    key: str = field(repr=False)
    retries: RetryPolicy
    timeout: float

    @classmethod
    def given(
        cls, url: str | None, key: str | None, retries: RetryPolicy | None, timeout: float
    ) -> Self:
        """Return the options, with `PENSTOCK_URL` and `PENSTOCK_API_KEY` in place of None.

        Raises:
            ValueError: One is missing, or the URL is none.
        """
        address = (url or os.environ.get(URL_VARIABLE, "")).rstrip("/")
        secret = key or os.environ.get(KEY_VARIABLE, "")
        if urlsplit(address).scheme not in ("http", "https"):
            raise ValueError(f"url: expected http://... or https://..., or set {URL_VARIABLE}")
        if not secret:
            raise ValueError(f"key: expected an API key, or set {KEY_VARIABLE}")
        return cls(address, secret, retries or RetryPolicy(), timeout)

    def http_options(self) -> dict[str, Any]:
        """Return the arguments of the HTTP client, sync or async."""
        local = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        return {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {self.key}"},
            "timeout": httpx2.Timeout(self.timeout, connect=CONNECT_SECONDS),
            "trust_env": not local,  # a proxy cannot reach this machine's loopback
        }

    def stream_timeout(self) -> httpx2.Timeout:
        """Return the time limits of a stream or download."""
        return httpx2.Timeout(max(self.timeout, STREAM_SECONDS), connect=CONNECT_SECONDS)

    def openai_options(self) -> dict[str, Any]:
        """Return the arguments that point OpenAI's client at this server."""
        return {"base_url": f"{self.url}/v1", "api_key": self.key}


def opened(part: FilePart | None) -> AbstractContextManager[BinaryIO | bytes | None]:
    """Open the file of a call, anew for each try."""
    content = None if part is None else part.content
    return content.open("rb") if isinstance(content, Path) else nullcontext(content)


def request_options(
    call: ApiCall[Any], content: BinaryIO | bytes | None, timeout: float
) -> dict[str, Any]:
    """Return the arguments of the HTTP request of a call."""
    options: dict[str, Any] = {"params": dict(call.params), "headers": dict(call.headers)}
    if call.body is not None:
        options["json"] = call.body
    if call.file is not None:
        options["files"] = {"file": (call.file.name, content, "application/jsonl")}
        options["data"] = {"purpose": "batch"}
        options["timeout"] = httpx2.Timeout(max(timeout, UPLOAD_SECONDS), connect=CONNECT_SECONDS)
    elif "wait" in call.params:
        longest = timeout + float(call.params["wait"])
        options["timeout"] = httpx2.Timeout(longest, connect=CONNECT_SECONDS)
    return options


def answer_of(call: ApiCall[T], response: httpx2.Response) -> T:
    """Return what a call's response says.

    Raises:
        ApiError: The server refused the call.
        PenstockError: The response is not the API's.
    """
    if not response.is_success:
        raise refusal(response.status_code, headers_of(response), response.content)
    try:
        return call.read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PenstockError(
            f"{call.method} {call.path}: the answer is not the API's: {error!r}"
        ) from error


def headers_of(response: httpx2.Response) -> Mapping[str, str]:
    """Return the headers with lower-case names."""
    return {name.lower(): value for name, value in response.headers.items()}
