"""Parses Prefer, Idempotency-Key and X-On-Disconnect.

Prefer follows RFC 7240: unknown preferences are ignored; those that were applied are named in
`Preference-Applied`.
"""

import re
from typing import NamedTuple, Protocol

from jobs.job import OnDisconnect
from wire.errors import InvalidHeader

KEY = re.compile(r"[\x20-\x7e]{1,255}")
WAIT = re.compile(r'wait="?(\d{1,9})"?')


class RequestHeaders(Protocol):
    """The headers of a request; names are given in lower case."""

    def get(self, key: str) -> str | None:
        """Return the first value of a header, or None."""
        ...

    def getlist(self, key: str) -> list[str]:
        """Return every value of a header."""
        ...


class Preferences(NamedTuple):
    """What a client's headers ask for.

    Attributes:
        respond_async: Whether the response is to be the job, not its result.
        wait_seconds: After how many seconds to respond with the job; None to wait for the result.
        idempotency_key: The key without quotes; "" for none.
        on_disconnect: What happens to the job when the client disconnects; None for the default.
        event_ids: Whether a stream of chunks shows the number of each event as its `id:`.
    """

    respond_async: bool
    wait_seconds: int | None
    idempotency_key: str
    on_disconnect: OnDisconnect | None
    event_ids: bool = False

    @property
    def accepts_job(self) -> bool:
        """Return whether the response may be a job instead of a result."""
        return self.respond_async or self.wait_seconds is not None

    @property
    def applied(self) -> dict[str, str]:
        """Return the header that names the applied preferences."""
        applied = []
        if self.respond_async:
            applied.append("respond-async")
        if self.wait_seconds is not None:
            applied.append(f"wait={self.wait_seconds}")
        if self.event_ids:
            applied.append("event-ids")
        return {"Preference-Applied": ", ".join(applied)} if applied else {}


#: For requests without headers.
NO_PREFERENCES = Preferences(
    respond_async=False, wait_seconds=None, idempotency_key="", on_disconnect=None
)


def read_preferences(headers: RequestHeaders, longest_wait: float) -> Preferences:
    """Parse the headers.

    Args:
        headers: The request's headers.
        longest_wait: The most seconds that `Prefer: wait` may ask for; more is cut to this.

    Raises:
        InvalidHeader: Idempotency-Key or X-On-Disconnect has an invalid value.
    """
    respond_async, wait, event_ids = False, None, False
    if prefer := headers.getlist("prefer"):
        words = [word.strip() for word in ",".join(prefer).split(",")]
        respond_async, event_ids = "respond-async" in words, "event-ids" in words
        waits = [int(found[1]) for word in words if (found := WAIT.fullmatch(word))]
        wait = min(waits[0], int(longest_wait)) if waits else None
    key = headers.get("idempotency-key")
    policy = headers.get("x-on-disconnect")
    return Preferences(
        respond_async,
        wait,
        "" if key is None else _unquote(key.strip()),
        None if policy is None else _policy(policy),
        event_ids,
    )


def _unquote(key: str) -> str:
    """Accept a quoted string, as in the draft standard, and a bare one, as most clients send."""
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if not KEY.fullmatch(key):
        raise InvalidHeader(
            "Idempotency-Key: expected 1 to 255 printable ASCII characters",
            param="Idempotency-Key",
        )
    return key


def _policy(value: str) -> OnDisconnect:
    if value == "continue":
        return "continue"
    if value == "cancel":
        return "cancel"
    raise InvalidHeader("X-On-Disconnect: expected continue or cancel", param="X-On-Disconnect")


def disconnect_policy(preferences: Preferences) -> OnDisconnect:
    """Return what a disconnect does to the job on routes that respond with its result.

    Without X-On-Disconnect the job is cancelled, unless the client sent an idempotency key: then
    it can fetch the result by repeating the request.
    """
    if preferences.on_disconnect is not None:
        return preferences.on_disconnect
    return "continue" if preferences.idempotency_key else "cancel"
