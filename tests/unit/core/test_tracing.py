"""Trace contexts, sampling, and an exporter that never blocks the application."""

import socket
import time
from collections.abc import Iterator

import pytest

from core import metrics, tracing
from core.settings.observability import TraceSettings
from core.span_exporter import SpanWriter
from core.spans import Context
from core.tracing import RequestTrace, Tracer, parse
from tests.support.machine import is_over

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_survives_the_way_there_and_back() -> None:
    found = parse(GOOD)
    assert found is not None
    assert found.sampled
    assert found.context.traceparent == GOOD


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        GOOD.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{GOOD}-more",
        GOOD[:-1],
    ],
)
def test_what_is_no_traceparent_is_as_if_there_was_none(header: str | None) -> None:
    assert parse(header) is None


def test_a_later_version_may_say_more() -> None:
    found = parse(f"01-{TRACE}-{SPAN}-01-more")
    assert found is not None
    assert found.context.trace == TRACE


def test_an_attempts_span_is_known_to_whoever_knows_the_job() -> None:
    one, other = Context(7, 1), Context(7, 2)
    assert one.attempt("job_1", 3) == other.attempt("job_1", 3)
    assert one.attempt("job_1", 3) != one.attempt("job_1", 4)


def test_off_there_is_no_object_for_a_trace() -> None:
    tracing.configure_tracing(TraceSettings(), "test")
    assert tracing.active() is None
    assert tracing.begin_here() is None
    assert tracing.joined(GOOD) is None


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def writer(black_hole: str) -> Iterator[SpanWriter]:
    settings = TraceSettings(
        endpoint=black_hole, queue_spans=100, export_seconds=0.05, timeout_seconds=1
    )
    opened = SpanWriter(settings, "test")
    yield opened
    opened.close()


def test_the_client_decides_for_its_trace_and_the_ratio_for_others(writer: SpanWriter) -> None:
    never, always = Tracer(writer, 0.0), Tracer(writer, 1.0)
    assert RequestTrace(never, GOOD).join() is not None
    assert RequestTrace(always, f"00-{TRACE}-{SPAN}-00").join() is None
    assert RequestTrace(never, None).join() is None
    assert RequestTrace(always, None).join() is not None
    half = Tracer(writer, 0.5)
    sampled = sum(RequestTrace(half, None).join() is not None for _ in range(2_000))
    assert 800 < sampled < 1_200


def test_strangers_decide_nothing_where_clients_are_not_joined(writer: SpanWriter) -> None:
    deaf = Tracer(writer, 0.0, join_clients=False)
    assert RequestTrace(deaf, GOOD).join() is None
    asked = RequestTrace(Tracer(writer, 1.0, join_clients=False), f"00-{TRACE}-{SPAN}-00").join()
    assert asked is not None
    assert asked.context.trace != TRACE


def test_an_endpoint_that_never_answers_costs_spans_and_no_time(writer: SpanWriter) -> None:
    def dropped() -> float:
        return metrics.spans.labels("dropped")._value.get()

    before, began = dropped(), time.monotonic()
    for number in range(5_000):
        writer.write("x", Context(1, number + 1), None, (1, 2), {"penstock.attempt": number})
    assert not is_over(began, 2.0)
    assert dropped() - before >= 4_800, "at most what is kept, and what was on its way"
    began = time.monotonic()
    writer.close()
    assert not is_over(began, 4.0)
