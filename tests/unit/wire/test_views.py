"""The views over one log: chat, completion, job and generate."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing.cost_cache import NOT_ENDED
from core.errors import EngineError, StoreUnavailable
from jobs.eta import Eta
from jobs.events import Event
from jobs.job import Job, JobSpec
from jobs.result import fold
from jobs.status import Status
from jobs.store.transitions import QueuePlace
from tests.support.sse import SseEvent, parse_sse
from wire.error_bodies import from_error
from wire.views.chat import ChatChunks, chat_completion, message
from wire.views.chunks import ChunkOptions, CompletionHead, usage_object
from wire.views.completion import CompletionChunks, completion
from wire.views.generate import GenerateEvents, generated
from wire.views.job import JobEvents, job_object, result_object
from wire.views.stream_view import StreamView

HEAD = CompletionHead("job_ab", 1_700_000_000, "m", "default")
WITH_USAGE = ChunkOptions(usage=True)
PROBLEM = from_error(StoreUnavailable("away", retry_after_seconds=2))
USAGE = {"input_tokens": 5, "cached_input_tokens": 2, "output_tokens": 3}


def log(*entries: tuple[str, dict[str, Any]]) -> list[Event]:
    return [Event(seq, kind, orjson.dumps(data)) for seq, (kind, data) in enumerate(entries, 1)]


def delta(text: str = "", index: int = 0, **more: Any) -> tuple[str, dict[str, Any]]:
    return "delta", {"index": index, "token_ids": [1] if text else [], "text": text, **more}


def finished(status: str = "completed", error: Any = None) -> tuple[str, dict[str, Any]]:
    data = {"status": status, "usage": USAGE, "error": error, "finished_at": 1_700_000_000.5}
    return "finished", data


STARTED: tuple[str, dict[str, Any]] = ("started", {"attempt": 1})
WHOLE = log(STARTED, delta("a"), delta("b"), delta(finish_reason="stop"), finished())


def shown(view: StreamView, events: list[Event], cut: int = 1000) -> list[SseEvent]:
    parts = [view.show(events[:cut]), view.show(events[cut:])]
    return parse_sse(b"".join(parts).decode())


def data(events: list[SseEvent]) -> list[Any]:
    return [event.json for event in events if event.data != "[DONE]"]


# --- chat -----------------------------------------------------------------------------


def test_a_chat_completion_is_whole() -> None:
    assert chat_completion(HEAD, fold(WHOLE)) == {
        "id": "chatcmpl-ab",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage_object(USAGE),
    }


@pytest.mark.parametrize("cut", range(6))
@pytest.mark.parametrize("view", [ChatChunks, CompletionChunks])
def test_a_stream_does_not_depend_on_how_events_are_batched(
    cut: int, view: type[ChatChunks] | type[CompletionChunks]
) -> None:
    one = shown(view(HEAD, WITH_USAGE), WHOLE)
    assert shown(view(HEAD, WITH_USAGE), WHOLE, cut) == one
    assert one[-1].data == "[DONE]"


def test_each_choices_first_chunk_says_who_speaks() -> None:
    chunks = data(shown(ChatChunks(HEAD), log(delta("a", 1), delta("b", 0))))
    deltas = [(c["choices"][0]["index"], c["choices"][0]["delta"]) for c in chunks]
    assert deltas == [
        (1, {"role": "assistant", "content": ""}),
        (1, {"content": "a"}),
        (0, {"role": "assistant", "content": ""}),
        (0, {"content": "b"}),
    ]


def test_what_shows_nothing_makes_no_chunk() -> None:
    events = log(STARTED, delta(), delta("hidden", delta={}))
    assert ChatChunks(HEAD).show(events) == b""


def test_text_without_length_is_still_shown_with_its_logprobs() -> None:
    view = ChatChunks(HEAD)
    chunks = data(shown(view, log(delta(logprobs={"content": []}))))
    assert chunks[-1]["choices"][0]["logprobs"] == {"content": []}


def test_usage_comes_last_and_only_when_asked_for() -> None:
    with_usage = data(shown(ChatChunks(HEAD, WITH_USAGE), WHOLE))
    assert with_usage[-1]["choices"] == []
    assert with_usage[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert all(chunk["usage"] is None for chunk in with_usage[:-1])
    without = data(shown(ChatChunks(HEAD), WHOLE))
    assert not any("usage" in chunk for chunk in without)


@pytest.mark.parametrize("view", [ChatChunks, CompletionChunks])
def test_a_restart_ends_a_stream_that_has_shown_text(
    view: type[ChatChunks] | type[CompletionChunks],
) -> None:
    chunks = view(HEAD)
    events = shown(chunks, log(delta("a"), ("restarted", {}), delta("NEW"), finished()))
    assert chunks.ended
    assert events[-2].json["error"]["code"] == "restarted"
    assert events[-1].data == "[DONE]"
    assert "NEW" not in str(events)


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
@pytest.mark.parametrize("view", [ChatChunks, CompletionChunks])
def test_a_job_without_result_ends_in_an_error(
    view: type[ChatChunks] | type[CompletionChunks], status: str
) -> None:
    error = EngineError("broke").as_dict() if status == "failed" else None
    events = shown(view(HEAD, WITH_USAGE), log(delta("a"), finished(status, error)))
    assert events[-2].json["error"]["job_id"] == "job_ab"
    assert events[-1].data == "[DONE]"


def test_tool_calls_are_joined_by_index() -> None:
    def part(index: int, **fields: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, **fields}]}

    whole = message(
        [
            {"reasoning": "a"},
            part(0, id="c0", type="function", function={"name": "f", "arguments": ""}),
            part(1, id="c1", function={"name": "g", "arguments": "{}"}),
            part(0, function={"arguments": "{"}),
            part(0, function={"arguments": "}"}),
            {"reasoning": "b"},
        ]
    )
    assert whole["content"] is None
    assert whole["reasoning"] == "ab"
    assert [call["id"] for call in whole["tool_calls"]] == ["c0", "c1"]
    assert [call["function"] for call in whole["tool_calls"]] == [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": "{}"},
    ]


@given(st.lists(st.text(max_size=4), max_size=8))
def test_chunks_and_whole_say_the_same(words: list[str]) -> None:
    events = log(*(delta(word) for word in words), delta(finish_reason="stop"), finished())
    whole = chat_completion(HEAD, fold(events))["choices"][0]["message"]["content"]
    chunks = data(shown(ChatChunks(HEAD), events))
    joined = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert joined == whole == "".join(words)


def test_a_stream_of_chunks_has_ids_only_for_those_who_ask() -> None:
    plain = b"".join([ChatChunks(HEAD).show(WHOLE), ChatChunks(HEAD).fail(PROBLEM)])
    assert b"id:" not in plain.replace(b'"id":', b"")
    numbered = shown(ChatChunks(HEAD, ChunkOptions(usage=True, numbered=True)), WHOLE)
    assert [event.id for event in numbered] == ["", "2", "3", "4", "5", "5"]


@pytest.mark.parametrize("view", [ChatChunks, CompletionChunks])
def test_running_usage_grows_to_the_final_usage(
    view: type[ChatChunks] | type[CompletionChunks],
) -> None:
    events = log(
        STARTED,
        delta("a", input_tokens=5),
        delta("b", index=1),
        delta("c", logprobs={"tokens": ["c"]}, finish_reason="stop"),
        delta(index=1, finish_reason="stop"),
        finished(),
    )
    options = ChunkOptions(usage=True, running_usage=True)
    usages = [chunk["usage"] for chunk in data(shown(view(HEAD, options), events))]
    assert all(usage["prompt_tokens"] == 5 for usage in usages)
    totals = [usage["completion_tokens"] for usage in usages]
    assert totals == sorted(totals)
    assert (totals[-1], usages[-1]["total_tokens"]) == (3, 8)


def test_running_usage_starts_again_with_a_restarted_job() -> None:
    events = log(delta(input_tokens=5), ("delta", {"index": 0, "token_ids": [1, 2], "text": ""}))
    again = log(("restarted", {}), delta("a", input_tokens=5))
    view = ChatChunks(HEAD, ChunkOptions(usage=True, running_usage=True))
    view.show(events)
    assert data(shown(view, again))[-1]["usage"]["completion_tokens"] == 1


VIEWS = {
    "chat": lambda: ChatChunks(HEAD, WITH_USAGE),
    "numbered chat": lambda: ChatChunks(HEAD, ChunkOptions(usage=True, numbered=True)),
    "text": lambda: CompletionChunks(HEAD),
    "job": lambda: JobEvents("job_ab", preamble=b"retry: 2000\n"),
    "generate": lambda: GenerateEvents("job_ab", 0.0),
}


@pytest.mark.parametrize("make", VIEWS.values(), ids=VIEWS)
def test_every_block_of_a_stream_has_data(make: Callable[[], StreamView]) -> None:
    view = make()
    sent = [view.preamble, view.ping]
    for event in WHOLE:
        sent += [view.show([event]), view.ping, view.ping]
    sent.append(make().fail(PROBLEM))
    *blocks, rest = b"".join(sent).decode().split("\n\n")
    assert all("data: " in f"\n{block}" for block in blocks)
    assert rest == ""


# --- text -----------------------------------------------------------------------------


def test_a_text_completion_is_whole() -> None:
    events = log(
        delta("a", logprobs={"tokens": ["a"], "text_offset": [0]}),
        delta("b", logprobs={"tokens": ["b"], "text_offset": [1]}, finish_reason="length"),
        finished(),
    )
    answer = completion(HEAD, fold(events))
    assert answer["id"] == "cmpl-ab"
    assert answer["choices"] == [
        {
            "index": 0,
            "text": "ab",
            "logprobs": {"tokens": ["a", "b"], "text_offset": [0, 1]},
            "finish_reason": "length",
        }
    ]


# --- jobs -----------------------------------------------------------------------------


def job(**fields: Any) -> Job:
    values: dict[str, Any] = {
        "id": "job_ab", "account": "acme", "queue": "m",
        "spec": JobSpec("/v1/completions", {"prompt": "secret"}), "status": Status.QUEUED,
        "created": 1_700_000_000_123, "queued": 1_700_000_000_123, "started": 0, "claimed": 0,
        "finished": 0, "attempt": 0, "failures": 0, "fence": 0, "seq": 0, "input_tokens": 0,
        "cached_input_tokens": 0, "output_tokens": 0, "run_ms": 0, "start_by": 0, "deadline": 0,
        "cancel_requested": 0, "worker": "", "error": None,
    }  # fmt: skip
    return Job(**{**values, **fields})


def test_a_waiting_job_has_position_and_band() -> None:
    shown_job = job_object(job(), NOT_ENDED, QueuePlace(3, Eta(10.0, 8.5, 11.5004)))
    assert shown_job["queue_position"] == 3
    assert shown_job["eta"] == {"seconds": 10.0, "low": 8.5, "high": 11.5}
    assert shown_job["created_at"] == 1_700_000_000.123
    assert (shown_job["started_at"], shown_job["run_seconds"]) == (None, None)
    assert "secret" not in str(shown_job)


def test_a_running_job_has_run_for_as_long_as_the_store_says() -> None:
    running = job(status=Status.IN_PROGRESS, started=1_700_000_001_123, run_ms=1000)
    assert job_object(running, NOT_ENDED, QueuePlace(None, None, 250))["run_seconds"] == 1.25


def test_a_finished_job_has_times_and_result() -> None:
    ended = job(
        status=Status.COMPLETED, started=1_700_000_001_123, finished=1_700_000_003_000, run_ms=1877
    )
    shown_job = job_object(ended, NOT_ENDED, result=result_object(ended, fold(WHOLE)))
    assert (shown_job["queue_seconds"], shown_job["run_seconds"]) == (1.0, 1.877)
    assert shown_job["result"]["object"] == "text_completion"


def test_only_jobs_that_failed_show_an_error() -> None:
    error = EngineError("broke").as_dict()
    assert job_object(job(error=error), NOT_ENDED)["error"] is None
    failed = job_object(job(status=Status.FAILED, error=error), NOT_ENDED)
    assert failed["error"]["detail"] == "broke"
    assert failed["error"]["instance"] == "/v1/jobs/job_ab"


def test_job_events_are_the_log_with_numbers_and_a_done() -> None:
    view = JobEvents("job_ab")
    events = shown(view, WHOLE)
    assert [event.event for event in events] == [
        "started", "delta", "delta", "delta", "finished", "done",
    ]  # fmt: skip
    assert events[0].json == {"sequence_number": 1, "attempt": 1}
    assert view.ended


# --- generate -------------------------------------------------------------------------


def test_generate_counts_tokens_and_time() -> None:
    answer = generated("p", fold(WHOLE), started=0.0)
    assert (answer["generated_text"], answer["tokens_generated"]) == ("ab", 3)
    assert answer["latency_ms"] > 0


def test_generate_events_end_with_totals() -> None:
    events = shown(GenerateEvents("job_ab", 0.0), WHOLE)
    assert [event.event for event in events] == ["", "", "done"]
    assert events[-1].json["tokens_generated"] == 3


@pytest.mark.parametrize(
    "view",
    [ChatChunks(HEAD), JobEvents("job_ab"), GenerateEvents("job_ab", 0.0)],
)
def test_a_cut_stream_says_why(view: StreamView) -> None:
    assert "away" in view.fail(PROBLEM).decode()
