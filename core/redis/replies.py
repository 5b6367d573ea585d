"""Classifies every error that Redis can answer, in one table.

Invariant: an error of this table never ends a process in the middle of its life. What passes by
itself, or when an operator acts, becomes `StoreUnavailable`; an error outside the table is a bug of
ours and is raised.
"""

import re
import time
from enum import Enum, auto
from typing import NamedTuple

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.errors import StoreUnavailable

log = structlog.get_logger()

RETRY_AFTER_SECONDS = 2.0

#: An operator's fault is logged at most this often, by error code.
LOG_SECONDS = 10.0


class Kind(Enum):
    """What an error means for the caller."""

    OUTAGE = auto()  #: A later try can succeed without a change of the configuration.
    CONFIGURATION = auto()  #: An operator must act; until then each try fails.
    BUG = auto()  #: The command is wrong.


class ReplyClass(NamedTuple):
    """One row of the table.

    Attributes:
        kind: What the error means.
        reconnect: Whether another server may answer at the same address, so that the connection
            must be made anew.
    """

    kind: Kind
    reconnect: bool = False


OUTAGE = ReplyClass(Kind.OUTAGE)
ELSEWHERE = ReplyClass(Kind.OUTAGE, reconnect=True)
CONFIGURATION = ReplyClass(Kind.CONFIGURATION)
STALE_LOGIN = ReplyClass(Kind.CONFIGURATION, reconnect=True)
BUG = ReplyClass(Kind.BUG)

#: By the first token of the reply.
REPLIES = {
    "READONLY": ELSEWHERE,  # a replica: the primary of a moment ago, after a failover
    "MASTERDOWN": ELSEWHERE,  # a replica without its primary
    "UNBLOCKED": ELSEWHERE,  # became a replica while a command waited
    "LOADING": ELSEWHERE,  # reads its data, as a new replica does
    "NOREPLICAS": ELSEWHERE,  # too few replicas: `min-replicas-to-write`
    "CLUSTERDOWN": ELSEWHERE,
    "TRYAGAIN": OUTAGE,  # slots move between nodes
    "BUSY": OUTAGE,  # a script runs for too long
    "UNKILLABLE": OUTAGE,
    "OOM": OUTAGE,
    "MISCONF": OUTAGE,  # the disk is full, or cannot be written
    "NOSCRIPT": OUTAGE,  # unknown twice in a row: Redis has just restarted again
    "EXECABORT": OUTAGE,  # a command of the transaction was refused
    "INPROG": OUTAGE,
    "IOERR": OUTAGE,
    "NOAUTH": STALE_LOGIN,
    "WRONGPASS": STALE_LOGIN,
    "NOPERM": STALE_LOGIN,
    "DENIED": CONFIGURATION,  # protected mode
    "MOVED": CONFIGURATION,  # Redis Cluster, which is not supported
    "ASK": CONFIGURATION,
    "CROSSSLOT": CONFIGURATION,
    "NOPROTO": CONFIGURATION,
    "NOTBUSY": BUG,
    "WRONGTYPE": BUG,
    "BUSYGROUP": BUG,
    "NOGROUP": BUG,
    "BUSYKEY": BUG,
    "ERR": BUG,
}

#: By the text that follows `ERR`; the others are bugs.
ERR_TEXTS = {
    "max number of clients reached": OUTAGE,
    "max number of clients + cluster": OUTAGE,
    "command not allowed when used memory": OUTAGE,  # `OOM` of old servers
    "protocol error: unauthenticated": STALE_LOGIN,  # `NOAUTH` for a long command
    "invalid password": STALE_LOGIN,
    "client sent auth, but no password is set": STALE_LOGIN,
    "auth <password> called without any password configured": STALE_LOGIN,
    "operation not permitted": STALE_LOGIN,
    "unknown command": CONFIGURATION,  # renamed by an operator, or the server is too old
    "db index is out of range": CONFIGURATION,
    "invalid db index": CONFIGURATION,
    "select is not allowed": CONFIGURATION,
}

CODE = re.compile(r"-?([A-Z]{2,})(?: |$)")
#: Since Redis 7 a refused transaction quotes the reason.
QUOTED = re.compile(r"because of: -?([A-Z]{2,}) ")


def reply_code(error: BaseException) -> str:
    """Return the code of a reply, such as `READONLY`; empty if Redis did not answer."""
    given = getattr(error, "status_code", None)
    if given:
        return str(given)
    found = CODE.match(str(error))
    return found[1] if found and not isinstance(error, RedisTimeoutError) else ""


def classify(error: BaseException) -> ReplyClass:
    """Return what an error of the client library means."""
    code, text = reply_code(error), str(error)
    if code == "EXECABORT" and (quoted := QUOTED.search(text)):
        return REPLIES.get(quoted[1], BUG)
    if code == "ERR":
        lowered = text.lower().removeprefix("err ")
        found = (row for begin, row in ERR_TEXTS.items() if lowered.startswith(begin))
        return next(found, BUG)
    if code in REPLIES:
        return REPLIES[code]
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
        return OUTAGE  # no reply: the connection
    if isinstance(error, InvalidResponse):
        return CONFIGURATION  # another program answers at this address
    return BUG


class _Announcements:
    """Limits how often one fault is logged."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def make(self, code: str, error: BaseException) -> None:
        now = time.monotonic()
        if now >= self._next.get(code, 0.0):
            self._next[code] = now + LOG_SECONDS
            log.error("redis_refuses_our_configuration", code=code, error=str(error)[:200])


_announcements = _Announcements()


def unavailable(error: BaseException) -> StoreUnavailable | None:
    """Return StoreUnavailable for an error after which a later try can succeed, else None."""
    if not isinstance(error, RedisError | OSError):
        return None
    kind = classify(error).kind
    if kind is Kind.BUG:
        return None
    if kind is Kind.CONFIGURATION:
        _announcements.make(reply_code(error) or type(error).__name__, error)
    return StoreUnavailable(
        "the job store does not take requests at the moment",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def translated(error: BaseException) -> BaseException:
    """Return the error that `guarded` would raise instead of this one."""
    later = unavailable(error)
    if later is None:
        return error
    later.__cause__ = error
    return later
