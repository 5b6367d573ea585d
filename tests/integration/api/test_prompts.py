"""Text completions with several prompts, and with their prompts in the answer."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from billing.budgets.budgets import max_tokens
from jobs.status import Status
from jobs.store.transitions import Ending
from tests.integration.api.conftest import MODEL, Hand, OnSharedApi, read_stream, says
from tests.support.ledger import consuming, until_consumed, usage_of

URL = "/v1/completions"
ENDS = {"text": "", "token_ids": [], "finish_reason": "stop"}


def echo(text: str, *probabilities: float | None) -> dict[str, Any]:
    """Return the delta of a prompt with its log probabilities."""
    logprobs = None
    if probabilities:
        tokens = [str(number) for number in range(len(probabilities))]
        offsets = list(range(len(probabilities)))
        logprobs = {"tokens": tokens, "token_logprobs": probabilities, "text_offset": offsets}
    return {"prompt": {"text": text, "logprobs": logprobs}}


async def two_prompts(hand: Hand) -> dict[str, Any]:
    """Answer a job of two prompts, the second one first; return its body."""
    job = await hand.take()
    await hand.write(job, ("delta", says("river", 1)), ("delta", says("mill", 0)))
    await hand.write(
        job,
        ("delta", {**says("", 0), **ENDS}),
        ("delta", {**says("", 1), **ENDS}),
        ending=Ending(Status.COMPLETED),
    )
    return dict(job.spec.body)


@pytest.mark.parametrize("prompts", [["a mill", "a river"], [[1, 2], [3]]], ids=["text", "ids"])
async def test_a_list_of_prompts_is_one_answer_with_a_choice_for_each(
    ai: openai.AsyncOpenAI, hand: Hand, prompts: Any
) -> None:
    answer, body = await asyncio.gather(
        ai.completions.create(model=MODEL, prompt=prompts), two_prompts(hand)
    )
    assert [(one.index, one.text) for one in answer.choices] == [(0, "mill"), (1, "river")]
    assert body["prompt"] == prompts
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)


async def test_a_stream_of_several_prompts_numbers_its_choices(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    task = asyncio.create_task(two_prompts(hand))
    stream = await ai.completions.create(model=MODEL, prompt=["a", "b"], stream=True)
    texts = {0: "", 1: ""}
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    await task
    assert texts == {0: "mill", 1: "river"}


async def loglikelihood(hand: Hand) -> None:
    job = await hand.take()
    logprobs = {"tokens": ["x"], "token_logprobs": [-0.5], "text_offset": [2]}
    first = says("x", delta=echo("ab", None, -1.0), logprobs=logprobs)
    await hand.write(job, ("delta", first))
    await hand.write(
        job, ("delta", {**says(""), **ENDS, "finish_reason": "length"}),
        ending=Ending(Status.COMPLETED),
    )  # fmt: skip


async def test_an_echo_is_the_prompt_and_the_output_with_their_logprobs(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    asked: Any = {"model": MODEL, "prompt": [[1, 2]], "max_tokens": 1, "logprobs": 1, "echo": True}
    answer, _ = await asyncio.gather(
        ai.completions.create(**asked, temperature=0, seed=1234), loglikelihood(hand)
    )
    (choice,) = answer.choices
    assert choice.text == "abx"
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs == [None, -1.0, -0.5]
    assert choice.logprobs.text_offset == [0, 1, 2]


async def test_a_streamed_echo_shows_the_prompt_once(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async def work() -> None:
        job = await hand.take()
        only = {**says(""), **ENDS, "delta": echo("ab"), "finish_reason": "length"}
        await hand.write(job, ("delta", only))
        await hand.write(job, ("delta", only), ending=Ending(Status.COMPLETED))  # a second attempt

    task = asyncio.create_task(work())
    asked = {"model": MODEL, "prompt": "ab", "echo": True, "max_tokens": 0, "stream": True}
    _, events = await read_stream(client, URL, "POST", json=asked)
    await task
    (chunk,) = [event.json for event in events if event.data != "[DONE]"]
    choice = chunk["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("ab", "length")


async def test_what_is_billed_is_each_prompt_once_and_what_was_generated(
    client: httpx2.AsyncClient, hand: Hand, database: Any
) -> None:
    prefer = {"Prefer": "respond-async"}
    body = {"model": MODEL, "prompt": ["a mill", "a river"]}
    job_id = (await client.post(URL, json=body, headers=prefer)).json()["id"]
    await two_prompts(hand)
    async with consuming(hand.store, database):
        await until_consumed(hand.store)
    row = (await usage_of(database))[job_id]
    assert (row.input_tokens, row.output_tokens) == (5, 2)


def test_a_budget_reserves_every_prompt_and_every_choice() -> None:
    body = {"prompt": ["a" * 400, "b" * 400], "n": 3, "max_tokens": 10}
    bound = max_tokens(body, 850, 512)
    assert (bound.input, bound.output) == (min(850 + 1024, 1024), 60)
    assert max_tokens({"prompt": "a", "echo": True, "max_tokens": 0}, 50, 512).output == 0


class TestRefused(OnSharedApi):
    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"prompt": ["a", ""]}, "prompt"),
            ({"prompt": ["a", [1]]}, "prompt"),
            ({"prompt": [[1], []]}, "prompt"),
            ({"prompt": [1, "a"]}, "prompt"),
            ({"prompt": []}, "prompt"),
            ({"prompt": ["a"] * 129}, "prompt"),
            ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
            ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ],
    )
    async def test_what_is_no_list_of_prompts_is_refused(
        self, client: httpx2.AsyncClient, hand: Hand, fields: dict[str, Any], param: str
    ) -> None:
        del hand
        refused = await client.post(URL, json={"model": MODEL, **fields})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)

    @pytest.mark.parametrize("n", [1, 2])
    async def test_the_most_prompts_are_taken(
        self, client: httpx2.AsyncClient, hand: Hand, n: int
    ) -> None:
        asked = {"model": MODEL, "prompt": ["a"] * (128 // n), "n": n}
        taken = await client.post(URL, json=asked, headers={"Prefer": "respond-async"})
        assert taken.status_code == 202, taken.text
        await hand.finish_next()
