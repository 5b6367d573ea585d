"""Counts and times every request by the template of its route, never by its path.

Invariant: labels are bounded: what matches no route is `unmatched`, and its method, which a client
may have made up, is `other` unless HTTP has it.
"""

from functools import lru_cache
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.types import Scope

from core import metrics

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNMATCHED = "unmatched"
#: What a client is told that left before it was answered, in nginx's words.
LEFT = 499


class MeasuredRequest:
    """One request's time and status."""

    __slots__ = ("_began", "_seconds", "status")

    def __init__(self) -> None:
        self._began = perf_counter()
        self._seconds = 0.0
        self.status = LEFT

    def answered(self, status: int) -> None:
        """The answer begins."""
        self.status = status
        self._seconds = perf_counter() - self._began

    def close(self, scope: Scope, trace_id: str = "") -> None:
        """Count it, with the trace it belongs to as an exemplar."""
        route, method = route_of(scope), method_of(scope)
        _requests(route, method, f"{self.status // 100}xx").inc()
        if self.status != LEFT:
            exemplar = {"trace_id": trace_id} if trace_id else None
            _seconds(route, method).observe(self._seconds, exemplar)


def route_of(scope: Scope) -> str:
    """Return the template of the route that took a request."""
    path: str = getattr(scope.get("route"), "path", UNMATCHED)
    return path


def method_of(scope: Scope) -> str:
    """Return the method, if it is one."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


@lru_cache(maxsize=1024)
def _requests(route: str, method: str, status: str) -> Counter:
    return metrics.http_requests.labels(route, method, status)


@lru_cache(maxsize=512)
def _seconds(route: str, method: str) -> Histogram:
    return metrics.http_seconds.labels(route, method)
