"""A job's result is the fold of its events."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from jobs.events import Event
from jobs.result import JobResult, fold
from wire.views.chat import message


def delta(seq: int, index: int, ids: list[int], text: str, finish: str | None = None) -> Event:
    data: dict[str, object] = {"index": index, "token_ids": ids, "text": text}
    if finish:
        data["finish_reason"] = finish
    return Event(seq, "delta", orjson.dumps(data))


def test_choices_are_kept_apart() -> None:
    result = fold([delta(1, 0, [1], "a"), delta(2, 1, [9], "z"), delta(3, 0, [2], "b", "stop")])
    assert result.choices[0].text == ["a", "b"]
    assert result.choices[0].finish_reason == "stop"
    assert result.choices[1].finish_reason is None


def test_restarted_discards_what_came_before() -> None:
    result = fold([delta(1, 0, [1], "a"), Event(2, "restarted", b"{}"), delta(3, 0, [2], "b")])
    assert result.choices[0].text == ["b"]
    assert result.choices[0].token_count == 1


@given(texts=st.lists(st.text(), max_size=20), cut=st.integers(0, 20))
def test_folding_in_any_cut_gives_the_same_result(texts: list[str], cut: int) -> None:
    events = [delta(i, i % 2, [i], text) for i, text in enumerate(texts)]
    whole, parts = fold(events), JobResult()
    for piece in (events[:cut], events[cut:]):
        for event in piece:
            parts.add(event)
    assert parts == whole


deltas = st.one_of(
    st.builds(lambda text: {"text": text}, st.text(max_size=5)),
    st.builds(lambda text: {"text": "", "delta": {"reasoning": text}}, st.text(max_size=5)),
    st.builds(
        lambda text: {
            "text": "",
            "delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]},
        },
        st.text(max_size=5),
    ),
)


@given(st.lists(st.tuples(st.integers(0, 2), deltas), max_size=20))
def test_the_archive_keeps_all_that_an_answer_is_made_of(
    said: list[tuple[int, dict[str, object]]],
) -> None:
    events = [
        Event(seq, "delta", orjson.dumps({"index": index, "token_ids": [seq], **data}))
        for seq, (index, data) in enumerate(said, 1)
    ]
    result = fold(events)

    again = JobResult.decode(result.encode())

    assert list(again.choices) == sorted(result.choices)
    for index, choice in result.choices.items():
        kept = again.choices[index]
        assert message(kept.deltas) == message(choice.deltas)
        assert "".join(kept.text) == "".join(choice.text)
        assert sum(kept.chunks, ()) == sum(choice.chunks, ())
        assert (kept.finish_reason, kept.logprobs) == (choice.finish_reason, choice.logprobs)
