"""A stream that breaks off anywhere is continued without losing or repeating a token."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

import penstock
from penstock import AsyncPenstock, JobEvent, Penstock, RetryPolicy
from tests.support.raw_server import RawRequest, RawServer, raw_server, response

JOB = "job_1"
QUICK = RetryPolicy(max_reconnects=3, first_seconds=0.0)
TEXTS = ("Ein ", "Mühl\u2028rad", " läuft.")
PREAMBLE = b"retry: 1\n"

Read = Callable[..., list[JobEvent]]


def block(number: int, kind: str, **fields: Any) -> bytes:
    data = orjson.dumps({"sequence_number": number, **fields})
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), data)


def log(status: str = "completed") -> list[bytes]:
    deltas = [block(n, "delta", index=0, text=text) for n, text in enumerate(TEXTS, 2)]
    return [block(1, "started", attempt=1), *deltas, block(5, "finished", status=status)]


DONE = b'event: done\ndata: {"id": "job_1", "status": "completed"}\n\n'


def rest(request: RawRequest, events: list[bytes]) -> bytes:
    """Return the response of a server that has these events."""
    after = int(request.headers.get("last-event-id", "0"))
    content = PREAMBLE + b"".join(events[after:]) + DONE
    return response(content, content_type="text/event-stream")


def job(status: str = "completed") -> bytes:
    usage = {"input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 3}
    found = {"id": JOB, "status": status, "url": "/v1/completions", "model": "m"}
    more = {"created_at": 1.5, "attempt": 1, "usage": usage, "error": {"detail": "it broke"}}
    return response(found | more)


def read_sync(server: RawServer, after: int, rounds: int) -> list[list[JobEvent]]:
    with Penstock(server.url, "pk_test", retries=QUICK) as client:
        return [list(client.stream(JOB, after=after)) for _ in range(rounds)]


def read_async(server: RawServer, after: int, rounds: int) -> list[list[JobEvent]]:
    async def reading() -> list[list[JobEvent]]:
        async with AsyncPenstock(server.url, "pk_test", retries=QUICK) as client:
            return [
                [event async for event in client.stream(JOB, after=after)] for _ in range(rounds)
            ]

    return asyncio.run(reading())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Read:
    """Read a job's stream in the same way with either client."""

    def reading(server: RawServer, after: int = 0, rounds: int = 1) -> list[JobEvent]:
        *earlier, last = request.param(server, after, rounds)
        assert all(events == last for events in earlier)
        return last

    return reading


def check(events: list[JobEvent], after: int = 0) -> None:
    assert [event.number for event in events] == list(range(after + 1, 6))
    assert "".join(event.text for event in events) == "".join(TEXTS[max(0, after - 1) :])


def test_a_stream_that_is_cut_at_any_byte_has_each_event_once(read: Read) -> None:
    whole = rest(RawRequest("GET", "", {}, b""), log())
    before_the_end = len(whole.removesuffix(DONE))
    cuts = iter(range(before_the_end))
    fresh = True

    def answer(request: RawRequest) -> bytes:
        nonlocal fresh
        sent = rest(request, log())
        # Each stream is cut once.
        fresh, cut = not fresh, fresh
        return sent[: next(cuts)] if cut else sent

    with raw_server(answer) as server:
        check(read(server, 0, before_the_end))
    assert len(server.requests) == before_the_end * 2
    assert {one.path for one in server.requests} == {f"/v1/jobs/{JOB}/stream"}


def test_a_stream_that_always_breaks_off_after_one_more_event_arrives_whole(read: Read) -> None:
    def answer(request: RawRequest) -> bytes:
        after = int(request.headers.get("last-event-id", "0"))
        return rest(request, log()[: after + 1]).removesuffix(DONE)

    with raw_server(answer) as server:
        check(read(server, 0))
    assert len(server.requests) == 5


def test_events_that_the_reader_has_are_not_returned_again(read: Read) -> None:
    def answer(_: RawRequest) -> bytes:
        return response(b"".join(log()), content_type="text/event-stream")

    with raw_server(answer) as server:
        check(read(server, 3), 3)


def test_a_stream_that_never_comes_back_says_where_to_continue(read: Read) -> None:
    def answer(request: RawRequest) -> bytes:
        if request.headers.get("last-event-id") == "2":
            return b""
        return response(PREAMBLE + b"".join(log()[:2]), content_type="text/event-stream")

    with raw_server(answer) as server:
        with pytest.raises(penstock.StreamBrokenError, match=JOB) as raised:
            read(server, 0)
        assert raised.value.last == 2
    assert len(server.requests) == 1 + QUICK.max_reconnects


@pytest.mark.parametrize("status", [503, 502, 429])
def test_a_server_that_is_away_for_a_moment_is_asked_again(read: Read, status: int) -> None:
    def answer(request: RawRequest) -> bytes:
        if len(server.requests) == 1:
            return response({"status": status, "code": "shutting-down"}, status, Retry_After="0")
        if len(server.requests) == 2:
            problem = {"status": 503, "code": "shutting-down", "detail": "it stops"}
            interrupted = b"event: error\ndata: " + orjson.dumps(problem) + b"\n\n"
            return response(
                PREAMBLE + log()[0] + interrupted, content_type="text/event-stream; charset=utf-8"
            )
        return rest(request, log())

    with raw_server(answer) as server:
        check(read(server, 0))
    assert len(server.requests) == 3


def test_a_refused_stream_is_not_asked_for_again(read: Read) -> None:
    problem = {"status": 404, "code": "job-not-found", "detail": "there is none"}
    with (
        raw_server(lambda _: response(problem, 404)) as server,
        pytest.raises(penstock.NotFoundError, match="there is none"),
    ):
        read(server, 0)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "events",
    [
        [log()[0], log()[2]],
        [block(3, "replay_truncated", requested_after=0, first_available=4), log()[4]],
    ],
    ids=["a gap", "replay_truncated"],
)
def test_an_event_that_is_gone_is_an_error(read: Read, events: list[bytes]) -> None:
    with (
        raw_server(
            lambda _: response(b"".join(events), content_type="text/event-stream")
        ) as server,
        pytest.raises(penstock.EventsLostError) as raised,
    ):
        read(server, 0)
    assert raised.value.first_available in (3, 4)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("failed", penstock.JobFailedError),
        ("cancelled", penstock.JobCancelledError),
        ("expired", penstock.JobExpiredError),
    ],
)
def test_the_end_of_a_job_without_a_result_is_an_error(
    status: str, error: type[penstock.JobUnsuccessfulError]
) -> None:
    def answer(request: RawRequest) -> bytes:
        return rest(request, log(status)) if "stream" in request.path else job(status)

    seen: list[JobEvent] = []
    with raw_server(answer) as server, Penstock(server.url, "pk_test", retries=QUICK) as client:
        with pytest.raises(error, match="it broke") as raised:
            seen.extend(client.stream(JOB))
        assert raised.value.job.status == status
    check(seen)


def test_after_the_last_event_nothing_is_left(read: Read) -> None:
    def answer(request: RawRequest) -> bytes:
        return response(b"", 204) if "stream" in request.path else job()

    with raw_server(answer) as server:
        assert read(server, 5) == []
    assert server.requests[0].headers["last-event-id"] == "5"
