"""What every engine promises, the same body for all of them (`workers.engines.base`)."""

import asyncio
import itertools
from typing import Any

import pytest

from core.errors import ContextLengthExceeded, InvalidJob
from tests.contract.driver import Driver, chat, completion
from tests.support.waiting import eventually
from workers.engines.base import Resume
from workers.engines.simulated_text import expected

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]

PROMPTS = [
    chat("What is a penstock?"),
    chat("Tell me about the river.", max_tokens=60),
    chat([{"type": "text", "text": "Count to 12."}]),
    completion("A mill is", max_tokens=50),
    completion("The größe of 水 is 🌊", ignore_eos=True),
]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"stop": ["zzzz", " the qqq"], "ignore_eos": True},
    {"presence_penalty": 1.5, "ignore_eos": True},
    {"frequency_penalty": 0.7, "repetition_penalty": 1.2, "ignore_eos": True},
    {"min_tokens": 20, "logit_bias": {"40": 2.0}},
]


@pytest.mark.parametrize("body", PROMPTS)
async def test_every_token_is_reported_once_with_the_step_that_made_it(
    driver: Driver, body: dict[str, Any]
) -> None:
    choice = await driver.run(body)

    assert 0 < len(choice.ids) <= body["max_tokens"]
    assert choice.finish_reason in ("stop", "length")
    assert [output.finish_reason for output in choice.outputs[:-1]] == [None] * (
        len(choice.outputs) - 1
    )
    assert all(len(output.token_ids) == 1 for output in choice.outputs)
    assert choice.outputs[0].cached_input_tokens is not None
    if driver.name == "simulated":
        script = expected(body)
        assert (tuple(choice.ids), choice.text) == (script.token_ids, script.text)


async def test_the_same_greedy_body_yields_the_same_twice(driver: Driver) -> None:
    first = await driver.run(PROMPTS[0])
    second = await driver.run(PROMPTS[0])

    assert (first.ids, first.text) == (second.ids, second.text)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_generation_ends_at_the_limit(driver: Driver, field: str) -> None:
    body = completion("Once upon a time", ignore_eos=True)
    del body["max_tokens"]
    if field == "max_completion_tokens":
        body = chat("Once upon a time", ignore_eos=True, max_tokens=None)
    choice = await driver.run({**body, field: 7})

    assert len(choice.ids) == 7
    assert choice.finish_reason == "length"


async def test_a_stop_string_that_spans_tokens_ends_the_text_before_it(driver: Driver) -> None:
    body = completion("A mill is", ignore_eos=True)
    whole = await driver.run(body)
    pieces = [output.text for output in whole.outputs]
    cut = next(i for i in range(4, 30) if pieces[i] and pieces[i + 1])
    stop = pieces[cut][-1] + pieces[cut + 1][:2]

    choice = await driver.run({**body, "stop": [stop, "never in there"]})

    assert choice.text == whole.text[: whole.text.index(stop)]
    assert choice.finish_reason == "stop"
    assert choice.outputs[-1].stop_reason == stop
    assert choice.ids == whole.ids[: len(choice.ids)]


async def test_two_choices_are_two_sequences(driver: Driver) -> None:
    body = chat("Tell me about the weather.", n=2, temperature=2.0, seed=7)
    job = await driver.ended(await driver.add(body), 2)

    assert job.accepted is not None
    assert job.accepted.choices == 2
    assert sorted(job.choices) == [0, 1]
    assert job.choices[0].ids != job.choices[1].ids


async def test_each_prompt_of_a_list_has_choices_of_its_own(driver: Driver) -> None:
    prompts = ["A mill is", "The river runs", "Once upon a time"]
    most_likely = {"temperature": 1, "top_k": 1}  # vLLM allows several choices only if it samples
    alone = [await driver.run(completion(prompt, **most_likely)) for prompt in prompts]

    name = await driver.add(completion(prompts, n=2, **most_likely))
    job = await driver.ended(name, 6)

    assert job.accepted is not None
    assert (job.accepted.choices, job.accepted.prompts) == (6, 3)
    for number, expected_choice in enumerate(alone):
        first = job.choices[2 * number]
        assert (first.ids, first.text) == (expected_choice.ids, expected_choice.text)
        if driver.name != "simulated":
            assert job.choices[2 * number + 1].ids == expected_choice.ids
    lengths = []
    for prompt in prompts:
        single = driver.jobs[await driver.add(completion(prompt, max_tokens=1))]
        assert single.accepted is not None
        lengths.append(single.accepted.input_tokens)
    assert job.accepted.input_tokens == sum(lengths)


async def test_the_prompts_of_a_list_are_continued_each_where_it_stopped(driver: Driver) -> None:
    body = completion(["A mill is", "The river runs"], ignore_eos=True)
    whole = await driver.ended(await driver.add(body), 2)
    name = await driver.add(body, {1: whole.choices[1].logged(7)}, frozenset({0}))

    job = await driver.ended(name)

    assert list(job.choices) == [1]
    logged = whole.choices[1].logged(7)
    assert [*itertools.chain(*logged.chunks), *job.choices[1].ids] == whole.choices[1].ids
    assert logged.text + job.choices[1].text == whole.choices[1].text


async def test_an_echo_is_the_prompt_beside_the_first_output(driver: Driver) -> None:
    body = completion("A mill is")
    plain = await driver.run(body)
    echoed = await driver.run({**body, "echo": True})

    assert (echoed.ids, echoed.text) == (plain.ids, plain.text)
    assert echoed.outputs[0].delta == {"prompt": {"text": "A mill is", "logprobs": None}}
    assert all(output.delta is None for output in echoed.outputs[1:])
    continued = await driver.run({**body, "echo": True}, echoed.logged(3))
    assert all(output.delta is None for output in continued.outputs)


async def test_without_tokens_to_generate_only_the_prompt_is_shown(driver: Driver) -> None:
    (output,) = (await driver.run(completion("A mill is", echo=True, max_tokens=0))).outputs

    assert output.delta == {"prompt": {"text": "A mill is", "logprobs": None}}
    assert (list(output.token_ids), output.text, output.finish_reason) == ([], "", "length")


async def test_a_choice_that_ended_earlier_is_not_run_again(driver: Driver) -> None:
    body = chat("Tell me about the weather.", n=2, temperature=2.0, seed=7)
    job = await driver.ended(await driver.add(body), 2)
    again = await driver.add(body, {1: job.choices[1].logged(3)}, frozenset({0}))
    rest = await driver.ended(again, 1)

    assert sorted(rest.choices) == [1]
    assert rest.accepted is not None
    assert rest.accepted.choices == 2


async def test_abort_stops_a_generation_and_frees_its_slot(driver: Driver) -> None:
    body = completion("On and on", max_tokens=1500, ignore_eos=True)
    names = [await driver.add(body) for _ in range(driver.info.slots + 1)]
    job = await driver.tokens(names[0], 3)
    await driver.tokens(names[-2], 1)

    async def full() -> bool:
        load = driver.engine.load()  # of the last step, which may not have seen the newest request
        return (load.running, load.waiting) == (driver.info.slots, 1) and load.kv_usage > 0

    await eventually(full)

    await driver.engine.abort(names[0])
    reported = len(job.choices[0].ids)
    await driver.tokens(names[-1], 2)  # it got the slot
    assert len(job.choices[0].ids) == reported

    await asyncio.gather(*(driver.engine.abort(name) for name in names))
    steps = len(driver.steps)
    await driver.engine.probe()
    assert len(driver.steps) == steps
    assert driver.engine.load().running == 0


async def test_aborting_what_is_unknown_or_ended_is_fine(driver: Driver) -> None:
    name = await driver.add(chat("Hello"))
    await driver.ended(name)

    await driver.engine.abort(name)
    await driver.engine.abort("never seen")


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_continued_generation_equals_the_uninterrupted_one(
    driver: Driver, variant: dict[str, Any]
) -> None:
    for body in ({**prompt, **variant} for prompt in PROMPTS):
        whole = await driver.run(body)
        for count in {1, 2, 7, 19, len(whole.ids) - 1} & set(range(1, len(whole.ids))):
            logged = whole.logged(count)
            rest = await driver.run(body, logged)

            assert list(itertools.chain(*logged.chunks)) + rest.ids == whole.ids
            assert logged.text + rest.text == whole.text
            assert rest.finish_reason == whole.finish_reason


async def test_a_stop_string_may_begin_in_the_log_and_end_after_it(driver: Driver) -> None:
    body = completion("A mill is", ignore_eos=True)
    plain = await driver.run(body)
    stop = plain.text[20:32]
    whole = await driver.run({**body, "stop": stop})
    for count in range(1, len(whole.ids)):
        logged = whole.logged(count)
        rest = await driver.run({**body, "stop": stop}, logged)

        assert logged.text + rest.text == whole.text
        assert list(itertools.chain(*logged.chunks)) + rest.ids == whole.ids
        assert rest.outputs[-1].stop_reason == stop


@pytest.mark.parametrize(
    "fields", [{"ignore_eos": True, "max_tokens": 9}, {"stop": " "}], ids=["length", "stop"]
)
async def test_a_log_that_shows_its_end_only_gets_a_finish_reason(
    driver: Driver, fields: dict[str, Any]
) -> None:
    body = completion("A mill is", **fields)
    whole = await driver.run(body)
    rest = await driver.run(body, whole.logged(len(whole.ids)))

    assert (rest.ids, rest.text) == ([], "")
    assert rest.finish_reason == whole.finish_reason
    assert len(rest.outputs) == 1


async def test_input_tokens_are_those_of_the_prompt_also_when_continued(driver: Driver) -> None:
    name = await driver.add(chat("What is a river?"))
    job = await driver.ended(name)
    again = await driver.add(chat("What is a river?"), {0: job.choices[0].logged(5)})
    await driver.ended(again)

    first, second = job.accepted, driver.jobs[again].accepted
    assert first is not None
    assert second is not None
    assert first.input_tokens == second.input_tokens > 0
    assert not second.restarted


async def test_forty_generations_share_eight_slots(driver: Driver) -> None:
    bodies = [chat(f"Count to {n}.", max_tokens=5 + n, ignore_eos=True) for n in range(40)]
    names = [await driver.add(body) for body in bodies]
    jobs = await asyncio.gather(*(driver.ended(name) for name in names))

    assert [len(job.choices[0].ids) for job in jobs] == [5 + n for n in range(40)]
    assert max(len(step) for step in driver.steps) == driver.info.slots == 8


async def test_probe_goes_unseen_by_the_sink(driver: Driver) -> None:
    steps = len(driver.steps)
    await driver.engine.probe()

    assert len(driver.steps) == steps


INVALID: list[tuple[str, dict[str, Any]]] = [
    ("max_tokens", completion("x", max_tokens=0)),
    ("max_tokens", completion("x", max_tokens="many")),
    ("max_completion_tokens", chat("x", max_completion_tokens=-1)),
    ("n", chat("x", n=0)),
    ("temperature", chat("x", temperature=9)),
    ("top_p", chat("x", top_p=2)),
    ("stop", chat("x", stop=[""])),
    ("messages", {"messages": "hello"}),
    ("messages", {"messages": [{"content": "no role"}]}),
    ("prompt", completion("")),
    ("prompt", completion(["one", ["two"]])),
    ("echo", chat("x", echo=True)),
    ("suffix", completion("x", suffix="y")),
    ("best_of", completion("x", best_of=3)),
    ("use_beam_search", chat("x", use_beam_search=True)),
    ("prompt_logprobs", completion("x", prompt_logprobs=1)),
]


@pytest.mark.parametrize(("field", "body"), INVALID)
async def test_an_invalid_body_is_refused_by_the_name_of_its_field(
    driver: Driver, field: str, body: dict[str, Any]
) -> None:
    before = dict(body)
    with pytest.raises(InvalidJob) as caught:
        await driver.add(body)

    assert caught.value.param == field
    assert body == before


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("messages", chat("word " * 3000)),
        ("prompt", completion("word " * 3000)),
    ],
)
async def test_what_does_not_fit_the_context_is_refused(
    driver: Driver, field: str, body: dict[str, Any]
) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await driver.add(body)

    assert caught.value.param == field


async def test_a_limit_that_does_not_fit_beside_the_prompt_is_shortened(driver: Driver) -> None:
    name = await driver.add(completion([40] * 2040, max_tokens=2048, ignore_eos=True))
    choice = (await driver.ended(name)).choices[0]

    accepted = driver.jobs[name].accepted
    assert accepted is not None
    assert (accepted.input_tokens, len(choice.ids)) == (2040, 8)
    assert choice.finish_reason == "length"


async def test_an_empty_resume_is_a_fresh_start(driver: Driver) -> None:
    whole = await driver.run(PROMPTS[0])
    again = await driver.run(PROMPTS[0], Resume())

    assert again.ids == whole.ids
