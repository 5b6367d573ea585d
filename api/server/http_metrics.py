"""Counts and times every request, labelled with the template of its route, not with its path.

Invariant: labels are bounded. A path that matches no route is `unmatched`; a method that HTTP does
not define is `other`.
"""

from functools import lru_cache
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.types import Scope

from core import metrics

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNMATCHED = "unmatched"
#: Status recorded when the client disconnected before the response; nginx uses the same.
CLIENT_DISCONNECTED = 499


class MeasuredRequest:
    """Times, in seconds of `perf_counter`, and status of one request."""

    __slots__ = ("_seconds", "started", "status")

    def __init__(self) -> None:
        self.started = perf_counter()
        self._seconds = 0.0
        self.status = CLIENT_DISCONNECTED

    def answered(self, status: int) -> None:
        """Record the status and the time to the start of the response."""
        self.status = status
        self._seconds = perf_counter() - self.started

    def close(self, scope: Scope, trace_id: str = "") -> None:
        """Count the request, with its trace as an exemplar."""
        route, method = route_of(scope), method_of(scope)
        _requests(route, method, str(self.status)).inc()
        if self.status != CLIENT_DISCONNECTED:
            exemplar = {"trace_id": trace_id} if trace_id else None
            _seconds(route, method).observe(self._seconds, exemplar)


def route_of(scope: Scope) -> str:
    """Return the template of the route that handled a request."""
    path: str = getattr(scope.get("route"), "path", UNMATCHED)
    return path


def method_of(scope: Scope) -> str:
    """Return the method, or `other` for an unknown one."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


@lru_cache(maxsize=4096)
def _requests(route: str, method: str, status: str) -> Counter:
    return metrics.http_requests.labels(route, method, status)


@lru_cache(maxsize=512)
def _seconds(route: str, method: str) -> Histogram:
    return metrics.http_seconds.labels(route, method)
