"""Every error that Redis can answer has one class, and the client library hides none of them."""

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import capture_logs

from core.errors import StoreUnavailable
from core.redis import replies
from core.redis.replies import ERR_TEXTS, REPLIES, Kind, classify, reply_code, unavailable

#: Replies as servers send them.
OUTAGES = [
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 2a, on @user_script:1.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED force unblock from blocking operation, instance state changed",
    "LOADING Redis is loading the dataset in memory",
    "NOREPLICAS Not enough good replicas to write.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOSCRIPT No matching script. Please use EVAL.",
    "EXECABORT Transaction discarded because of previous errors.",
    "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.",
    "ERR max number of clients reached",
    "ERR max number of clients + cluster connections reached",
]
CONFIGURATION = [
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM User default has no permissions to run the 'evalsha' command",
    "DENIED Redis is running in protected mode",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "ERR invalid password",
    "ERR Protocol error: unauthenticated multibulk length",
    "ERR AUTH <password> called without any password configured for the default user.",
    "ERR unknown command 'EVALSHA', with args beginning with: ",
    "ERR DB index is out of range",
    "ERR SELECT is not allowed in cluster mode",
    "EXECABORT Transaction discarded because of: NOPERM this user has no permissions",
]
BUGS = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR value is not an integer or out of range",
    "ERR wrong number of arguments for 'get' command",
    "BUSYGROUP Consumer Group name already exists",
    "NOGROUP No such key",
    "user_script:1: Script attempted to access nonexistent global variable",
]


def answered(reply: str) -> Exception:
    """Return what the client library makes of a reply."""
    error: Exception = BaseParser.parse_error(reply)
    return error


@pytest.mark.parametrize("reply", OUTAGES)
def test_an_outage_is_refused_with_a_time_to_come_back(reply: str) -> None:
    error = answered(reply)
    assert classify(error).kind is Kind.OUTAGE
    refused = unavailable(error)
    assert isinstance(refused, StoreUnavailable)
    assert refused.retry_after_seconds > 0


@pytest.mark.parametrize("reply", CONFIGURATION)
def test_a_fault_of_the_configuration_is_logged_once_in_a_while_and_ends_nothing(
    reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "_announcements", replies._Announcements())
    error, code = answered(reply), reply.partition(" ")[0]
    assert classify(error).kind is Kind.CONFIGURATION
    with capture_logs() as logged:
        assert isinstance(unavailable(error), StoreUnavailable)
        assert isinstance(unavailable(error), StoreUnavailable)
    assert [(line["log_level"], line["code"]) for line in logged] == [("error", code)]


@pytest.mark.parametrize("reply", BUGS)
def test_a_bug_of_ours_is_raised(reply: str) -> None:
    assert classify(answered(reply)).kind is Kind.BUG
    assert unavailable(answered(reply)) is None


@pytest.mark.parametrize(
    "reply", ["READONLY", "MASTERDOWN", "UNBLOCKED", "LOADING", "NOREPLICAS", "CLUSTERDOWN"]
)
def test_a_server_that_is_no_primary_is_left(reply: str) -> None:
    assert classify(answered(f"{reply} and why")).reconnect


def test_an_error_without_an_answer_is_an_outage_and_one_before_it_a_bug() -> None:
    for error in (RedisConnectionError("reset"), RedisTimeoutError("late"), OSError("no route")):
        assert classify(error).kind is Kind.OUTAGE
    assert classify(InvalidResponse("HTTP/1.1 400")).kind is Kind.CONFIGURATION
    assert classify(DataError("not a string")).kind is Kind.BUG
    assert unavailable(ValueError("ours")) is None


def test_no_class_of_the_client_library_is_missing_in_the_table() -> None:
    known = BaseParser.EXCEPTION_CLASSES
    assert set(known) <= set(REPLIES)
    walked = {reply_code(answered(reply)) for reply in OUTAGES + CONFIGURATION + BUGS}
    assert {code for code, row in REPLIES.items() if row.reconnect} <= walked
    texts = [reply.lower() for reply in OUTAGES + CONFIGURATION]
    for begin in ("max number of clients reached", "invalid password", "unknown command"):
        assert begin in ERR_TEXTS
        assert any(text.startswith(f"err {begin}") for text in texts)
