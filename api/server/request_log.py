"""Logs one line for each request: what was asked, by which account and key, and how it ended.

Invariant: no query string, no body, no prompt and no credential is in a line. The path itself is
logged only where no route matched, without what looks like one of our secrets.
"""

import random
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from starlette.types import Message, Scope

from api.server.http_metrics import UNMATCHED, method_of, route_of
from core.settings.observability import LogSettings

EVENT = "request"
PATH_CHARACTERS = 128
#: What keys, refresh tokens and webhook secrets begin with, and access tokens look like.
SECRET = re.compile(r"(pk_|rt_|whsec_|eyJ)[^/]*")
#: Answered every few seconds; a probe that fails is logged.
PROBES = ("/health", "/ready", "/metrics")
FAILED_STATUS = 400


@dataclass(slots=True)
class RequestRecord:
    """What a line says of one request."""

    request_id: str
    job: str = ""
    bytes: int = 0

    def sent(self, message: Message) -> None:
        """Note what a part of the response says."""
        if message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
            return
        for name, value in message.get("headers", ()):
            if name == b"x-penstock-job":
                self.job = value.decode("latin-1")
                return


class RequestLog:
    """Writes the lines; `console` logs go through structlog, JSON is written directly.

    Direct, because the common path takes five times as long, in every request.
    """

    def __init__(self, settings: LogSettings) -> None:
        is_wanted = settings.level in ("DEBUG", "INFO")
        self.share = settings.requests if is_wanted else 0.0
        self._is_json = settings.format == "json"
        self._log = structlog.get_logger("api.server.request_log")

    def write(self, scope: Scope, record: RequestRecord, status: int, seconds: float) -> None:
        """Write the line of a request that is over, if it is in the share that is logged.

        Args:
            scope: The ASGI scope of the request.
            record: What was collected on the way.
            status: The status of the answer; 499 if the client left before it.
            seconds: From the request's arrival to the end of its answer.
        """
        if not self._is_logged(scope["path"], status):
            return
        fields = _fields(scope, record, status, seconds)
        if not self._is_json:
            self._log.info(EVENT, **fields)
            return
        line = {"event": EVENT, "process": "api", **fields, "level": "info", "timestamp": _now()}
        sys.stderr.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode())

    def _is_logged(self, path: str, status: int) -> bool:
        if not self.share:
            return False
        if status >= FAILED_STATUS:
            return True
        return path not in PROBES and (self.share >= 1 or random.random() < self.share)


def _fields(
    scope: Scope, record: RequestRecord, status: int, seconds: float
) -> dict[str, str | int | float]:
    """Return the fields of a line; those without a value are left out."""
    state: dict[str, Any] = scope.get("state", {})
    route = route_of(scope)
    fields: dict[str, str | int | float] = {
        "request_id": record.request_id,
        "method": method_of(scope),
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes": record.bytes,
    }
    if route == UNMATCHED:
        fields["path"] = SECRET.sub(r"\1...", scope["path"])[:PATH_CHARACTERS]
    caller = state.get("caller")
    if caller is not None:
        fields["account"], fields["key"] = caller.account, caller.id
    job = record.job or scope.get("path_params", {}).get("job_id", "")
    if job:
        fields["job"] = job[:PATH_CHARACTERS]
    return fields


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
