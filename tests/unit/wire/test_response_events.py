"""A response's events are a pure function of the log, and together give the whole response."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.submission import fresh_job
from jobs.events import Event
from jobs.job import JobSpec
from jobs.result import fold
from jobs.status import Status
from jobs.store.transitions import AcceptedJob, Submission
from tests.support.sse import SseEvent, parse_sse
from tests.unit.wire.test_views import STARTED, delta, finished, log
from wire.error_bodies import from_error
from wire.errors import Restarted
from wire.views.response import whole_response
from wire.views.response_events import ResponseEvents

TEXT: Any = st.text(min_size=1, max_size=5)


def a_job(**kept: Any) -> Any:
    response = {"store": True, "background": False, "instructed": False, **kept}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    spec = JobSpec("/v1/responses", body, response=response)
    job_id = f"job_{'ab' * 16}"
    return fresh_job(Submission(job_id, "acme", "m", spec), AcceptedJob(job_id, replayed=False))


def told(events: list[Event], cuts: int = 1, after: int = -1, **kept: Any) -> list[SseEvent]:
    """Return what a client sees of a log that comes in batches."""
    view = ResponseEvents(a_job(**kept), after=after)
    parts = [view.preamble]
    for start in range(0, len(events), cuts):
        parts.append(view.show(events[start : start + cuts]))
        if view.ended:
            break
    return parse_sse(b"".join(parts).decode())


def call(index: int, arguments: str, name: str = "") -> tuple[str, dict[str, Any]]:
    part: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name:
        part |= {"id": f"call_{index}", "type": "function"}
        part["function"]["name"] = name
    return delta("x", delta={"tool_calls": [part]})


def thought(text: str) -> tuple[str, dict[str, Any]]:
    return delta("x", delta={"reasoning": text})


PIECES = st.one_of(
    TEXT.map(delta),
    TEXT.map(thought),
    st.builds(call, st.integers(0, 2), TEXT, st.sampled_from(["f", "g"])),
    st.just(delta("x", delta={})),
    st.just(STARTED),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    pieces = draw(st.lists(PIECES, max_size=12))
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    status = draw(st.sampled_from(["completed", "failed", "cancelled"]))
    error = {"code": "engine-error", "message": "it broke"} if status == "failed" else None
    ends = [delta(finish_reason=reason)] if status == "completed" else []
    return log(STARTED, *pieces, *ends, finished(status, error))


@given(events=logs(), cuts=st.integers(1, 20), background=st.booleans())
def test_numbers_rise_by_one_and_batches_change_nothing(
    events: list[Event], cuts: int, background: bool
) -> None:
    seen = told(events, cuts, background=background)
    assert [event.json["sequence_number"] for event in seen] == list(range(len(seen)))
    assert [event.id for event in seen] == [str(number) for number in range(len(seen))]
    assert [event.event for event in seen] == [event.json["type"] for event in seen]
    assert seen == told(events, 1, background=background)


@given(events=logs(), after=st.integers(0, 40))
def test_reading_on_after_any_number_misses_and_repeats_nothing(
    events: list[Event], after: int
) -> None:
    assert told(events, after=after) == told(events)[after + 1 :]


@given(events=logs())
def test_the_stream_adds_up_to_the_whole_response(events: list[Event]) -> None:
    seen = [event.json for event in told(events)]
    built: dict[int, dict[str, Any]] = {}
    grown: dict[str, str] = {}
    for event in seen:
        if event["type"] == "response.output_item.added":
            assert event["output_index"] == len(built)
            built[len(built)] = event["item"]
        elif event["type"].endswith(".delta"):
            grown[event["item_id"]] = grown.get(event["item_id"], "") + event["delta"]
        elif event["type"] == "response.output_item.done":
            built[event["output_index"]] = event["item"]
    last = seen[-1]["response"]
    whole = whole_response(a_job(), fold(events))
    assert list(built.values()) == last["output"] == whole["output"]
    assert last == whole
    for item in last["output"]:
        texts = [part["text"] for part in item.get("content", ())] or [item.get("arguments")]
        assert grown.get(item["id"], "") == texts[0]


@given(events=logs())
def test_every_item_opens_once_and_closes_once(events: list[Event]) -> None:
    seen = [event.json for event in told(events)]
    opened = [event["item"]["id"] for event in seen if event["type"].endswith("item.added")]
    closed = [event["item"]["id"] for event in seen if event["type"].endswith("item.done")]
    assert opened == closed
    assert len(set(opened)) == len(opened)


@pytest.mark.parametrize(
    ("ending", "reason", "kind", "status"),
    [
        (finished(), "stop", "response.completed", "completed"),
        (finished(), "length", "response.incomplete", "incomplete"),
        (finished("cancelled"), "", "response.failed", "cancelled"),
        (finished("expired", {"code": "run-timeout"}), "", "response.failed", "failed"),
    ],
)
def test_each_end_has_its_event(ending: Any, reason: str, kind: str, status: str) -> None:
    last = [delta("a"), *([delta(finish_reason=reason)] if reason else []), ending]
    seen = told(log(STARTED, *last))
    assert (seen[-1].event, seen[-1].json["response"]["status"]) == (kind, status)
    item = seen[-1].json["response"]["output"][0]
    assert item["status"] == ("completed" if reason == "stop" else "incomplete")


def test_a_restart_ends_the_stream_and_reading_on_begins_the_answer_anew() -> None:
    events = log(STARTED, delta("old"), ("restarted", {}), delta("new"), finished())
    first = told(events)
    assert (first[-1].event, first[-1].json["code"]) == ("error", "restarted")
    rest = told(events, after=int(first[-1].id))
    assert rest[0].json["sequence_number"] == len(first)
    assert rest[-1].json["response"]["output"][0]["content"][0]["text"] == "new"
    quiet = told(log(STARTED, ("restarted", {}), delta("new"), finished()))
    assert [event.event for event in quiet] == [
        event.event for event in told(log(STARTED, delta("new"), finished()))
    ]


def test_logprobs_stand_with_the_text_they_are_about() -> None:
    def prob(token: str) -> dict[str, Any]:
        one = {"token": token, "logprob": -0.5, "bytes": [1], "top_logprobs": []}
        return {"content": [one]}

    events = log(delta("a", logprobs=prob("a")), delta("b", logprobs=prob("b")), finished())
    seen = [event.json for event in told(events)]
    deltas = [event for event in seen if event["type"] == "response.output_text.delta"]
    assert [[one["token"] for one in event["logprobs"]] for event in deltas] == [["a"], ["b"]]
    whole = whole_response(a_job(), fold(events))
    assert [one["token"] for one in whole["output"][0]["content"][0]["logprobs"]] == ["a", "b"]


def test_a_cut_stream_says_where_it_was() -> None:
    view = ResponseEvents(a_job())
    view.show(log(STARTED, delta("a")))
    cut = parse_sse(view.fail(from_error(Restarted("cut"))).decode())[0]
    assert (cut.id, cut.json["sequence_number"]) == ("", 5)
    assert orjson.loads(orjson.dumps(cut.json)).keys() >= {"type", "code", "message", "param"}


def test_a_response_that_has_not_ended_shows_no_output() -> None:
    job = a_job(background=True)._replace(status=Status.IN_PROGRESS)
    shown = whole_response(job, fold(log(STARTED, delta("a"))))
    assert (shown["status"], shown["output"], shown["usage"]) == ("in_progress", [], None)
    assert list(itertools.islice(shown, 2)) == ["id", "object"]
