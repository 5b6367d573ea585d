"""Decides whether a call is sent again, and when.

Invariant: no call is sent again that could have had an effect already, unless it is repeatable;
the server's `Retry-After` is the shortest wait.
"""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from penstock.api_calls import ApiCall
from penstock.errors import ApiError, ConnectionFailedError, ProblemDetails, api_error

#: The server refused before it did anything.
REFUSALS = frozenset({429, 503, 507})
#: Something between client and server failed, or the server took too long.
LOST = frozenset({408, 502, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a call is sent again.

    Attributes:
        max_retries: How often a call is sent again; with the waits this outlasts a restart.
        max_reconnects: How often a stream is opened again without a new event.
        first_seconds: The first wait; each further one is twice as long.
        longest_seconds: The longest of those waits.
        longest_retry_after_seconds: A longer `Retry-After` is an error at once.
    """

    max_retries: int = 8
    max_reconnects: int = 20
    first_seconds: float = 0.5
    longest_seconds: float = 8.0
    longest_retry_after_seconds: float = 60.0

    def allows(self, error: ApiError) -> bool:
        """Return whether the server permits a repeat, and soon enough."""
        soon = (error.retry_after or 0.0) <= self.longest_retry_after_seconds
        return error.problem.may_repeat and soon

    def wait_seconds(self, retry: int, retry_after: float | None = None) -> float:
        """Return the wait before a retry, counted from 1; jitter spreads many clients."""
        doubled: float = min(self.longest_seconds, self.first_seconds * 2.0 ** (retry - 1))
        return max(retry_after or 0.0, doubled * random.uniform(0.5, 1.0))


class Tries:
    """The tries of one call."""

    def __init__(self, policy: RetryPolicy, call: ApiCall[Any]) -> None:
        self._policy = policy
        self._call = call
        self._retries = 0

    def after_failure(self, error: httpx2.TransportError) -> float:
        """Return the seconds until the next try.

        Raises:
            ConnectionFailedError: There is none.
        """
        unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        if not (unsent or self._call.repeatable) or self._retries >= self._policy.max_retries:
            raise ConnectionFailedError(
                f"{self._call.method} {self._call.path} got no answer: {reason_of(error)}"
            ) from error
        self._retries += 1
        return self._policy.wait_seconds(self._retries)

    def after_refusal(self, error: ApiError) -> float:
        """Return the seconds until the next try.

        Raises:
            ApiError: There is none.
        """
        again = error.status in REFUSALS or (self._call.repeatable and error.status in LOST)
        spent = self._retries >= self._policy.max_retries
        if not again or spent or not self._policy.allows(error):
            raise error
        self._retries += 1
        return self._policy.wait_seconds(self._retries, error.retry_after)


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error of an answer; `headers` has lower-case names."""
    document = _document(body)
    text = body[:300].decode("utf-8", "replace").strip()
    return problem_error(
        {"status": status, "detail": text or f"HTTP status {status}", **document},
        headers,
    )


def problem_error(document: Mapping[str, Any], headers: Mapping[str, str]) -> ApiError:
    """Return the error of a problem document and the headers that came with it."""
    status = int(document.get("status", 500))
    return api_error(
        ProblemDetails(
            status=status,
            code=str(document.get("code") or f"http-{status}"),
            title=str(document.get("title") or ""),
            detail=str(document.get("detail") or document.get("title") or ""),
            param=document.get("param"),
            request_id=document.get("request_id") or headers.get("x-request-id"),
            retry_after=_retry_after(headers.get("retry-after")),
            may_repeat=headers.get("x-should-retry") != "false",
            document=document,
        )
    )


def reason_of(error: Exception) -> str:
    """Return an error's text, or its name if it has none."""
    return str(error) or type(error).__name__


def _document(body: bytes) -> dict[str, Any]:
    """Return the problem document of a body; a proxy's page is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after(text: str | None) -> float | None:
    """Read seconds, or the HTTP date that a proxy may send."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
