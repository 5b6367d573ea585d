"""The errors that a command ends with, each with a message, advice and an exit code.

0 done, 1 the server refused or the command failed, 2 wrong usage or settings, 3 no connection.
Invariant: every expected error ends as one of these, never as a traceback.
"""

from collections.abc import Mapping
from typing import Any


class Failure(Exception):
    """The command failed; each line of `advice` says what to do about it."""

    exit_code = 1

    def __init__(self, title: str, *advice: str) -> None:
        super().__init__(title)
        self.title = title
        self.advice = advice


class UsageError(Failure):
    """An argument or a setting is wrong."""

    exit_code = 2


class Unreachable(Failure):
    """A server does not answer."""

    exit_code = 3


class Refused(Failure):
    """The server refused the request; built from its problem document."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(*_read_problem(status, body))
        self.status = status


def _read_problem(status: int, body: Any) -> list[str]:
    """Return title and lines of an RFC 9457 problem, or of OpenAI's error shape."""
    if not isinstance(body, Mapping):
        return [f"HTTP {status}", *([str(body)[:200]] if body else [])]
    error = body.get("error")
    if isinstance(error, Mapping):
        body = {"title": error.get("code") or error.get("type"), "detail": error.get("message")} | (
            {"param": error["param"]} if error.get("param") else {}
        )
    lines = [str(body["detail"])] if body.get("detail") else []
    fields = [item for item in body.get("errors") or () if isinstance(item, Mapping)]
    if len(fields) > 1:
        lines += [f"field {item.get('pointer')}: {item.get('message')}" for item in fields]
        if body.get("more_errors"):
            lines.append(f"{body['more_errors']} more errors")
    elif fields or body.get("param"):
        lines.append(f"field: {fields[0].get('pointer') if fields else body['param']}")
    if body.get("retry_after") is not None:
        lines.append(f"try again in {body['retry_after']} s")
    return [f"{body.get('title') or 'refused'} (HTTP {status})", *lines]
