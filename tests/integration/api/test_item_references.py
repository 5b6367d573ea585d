"""References to items of earlier responses, which Vercel's AI SDK sends from the second turn on."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from core.errors import EngineError
from jobs.status import Status
from jobs.store.transitions import Ending
from tests.integration.api.conftest import MODEL, Hand, answering, says

URL = "/v1/responses"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": text}]}


def reference(item: Any) -> dict[str, Any]:
    return {"type": "item_reference", "id": item.id}


async def a_response(ai: openai.AsyncOpenAI, hand: Hand, **fields: Any) -> Any:
    """Return a response that thought, spoke and called a function."""
    function = {"name": "look", "arguments": '{"at": 1}'}
    part = {"index": 0, "id": "c1", "type": "function", "function": function}

    async def work() -> None:
        job = await hand.take()
        await hand.write(
            job,
            ("delta", says("x", delta={"reasoning": "I look."})),
            ("delta", says("Look: ")),
            ("delta", says("x", delta={"tool_calls": [part]}, finish_reason="tool_calls")),
            ending=Ending(Status.COMPLETED),
        )

    asked: Any = {"model": MODEL, "input": [user("what?")], **fields}
    response, _ = await asyncio.gather(ai.responses.create(**asked), work())
    return response


@pytest.mark.parametrize("named", [True, False], ids=["typed", "bare"])
async def test_a_second_turn_may_refer_to_the_items_of_the_first(
    ai: openai.AsyncOpenAI, hand: Hand, named: bool
) -> None:
    first = await a_response(ai, hand, instructions="Be brief.")
    assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
    references = [reference(item) for item in first.output]
    if not named:
        references = [{"id": item["id"]} for item in references]
    result = {"type": "function_call_output", "call_id": "c1", "output": "a mill"}
    asked: Any = {"model": MODEL, "input": [user("what?"), *references, result, user("and?")]}
    async with answering(hand, "A mill.") as taken:
        await ai.responses.create(**asked)
    whole: Any = {
        **asked,
        "input": [user("what?"), *first.to_dict()["output"], *asked["input"][4:]],
    }
    async with answering(hand, "A mill.") as also:
        await ai.responses.create(**whole)
    messages = taken[0].spec.body["messages"]
    assert messages == also[0].spec.body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
    spoken = messages[1]
    assert (spoken["reasoning"], spoken["content"]) == ("I look.", "Look: ")
    assert spoken["tool_calls"][0]["function"]["arguments"] == '{"at": 1}'


async def test_the_items_of_an_input_may_be_referred_to_as_well(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    first = await a_response(ai, hand, instructions="Be brief.")
    (asked,) = (await ai.responses.input_items.list(first.id)).data
    again: Any = [reference(asked)]
    async with answering(hand, "A mill.") as taken:
        await ai.responses.create(model=MODEL, input=again)
    (message,) = taken[0].spec.body["messages"]
    assert message == {"role": "user", "content": [{"type": "text", "text": "what?"}]}


async def refused(client: httpx2.AsyncClient, item: dict[str, Any]) -> None:
    """Check that a reference is refused by name, on both routes that take one."""
    body = {"model": MODEL, "input": [user("hi"), item]}
    answer = await client.post(URL, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "input[1].id"), answer.text
    assert item["id"] in error["message"]
    job = await client.post("/v1/jobs", json={"url": URL, "body": body})
    assert (job.status_code, job.json()["param"]) == (422, "input[1].id")


async def test_an_item_of_another_account_does_not_exist(
    ai: openai.AsyncOpenAI, hand: Hand, other: httpx2.AsyncClient
) -> None:
    first = await a_response(ai, hand)
    await refused(other, reference(first.output[1]))
    (asked,) = (await ai.responses.input_items.list(first.id)).data
    await refused(other, reference(asked))


async def test_an_item_that_is_not_stored_does_not_exist(
    ai: openai.AsyncOpenAI, hand: Hand, client: httpx2.AsyncClient
) -> None:
    unstored = await a_response(ai, hand, store=False)
    await refused(client, reference(unstored.output[0]))
    deleted = await a_response(ai, hand)
    await ai.responses.delete(deleted.id)
    await refused(client, reference(deleted.output[0]))
    kept = await a_response(ai, hand)
    suffix = kept.id.removeprefix("resp_")
    for unknown in (f"msg_{suffix}00ff", f"fc_{suffix}0001", "msg_x", f"msg_{'0' * 32}0000"):
        await refused(client, {"type": "item_reference", "id": unknown})


async def test_an_item_of_a_response_that_failed_does_not_exist(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    task = asyncio.create_task(hand.fail_after("a", EngineError("broke")))
    asked = {"model": MODEL, "input": "hi"}
    failed = await client.post(URL, json=asked)
    await task
    suffix = failed.headers["x-penstock-job"].removeprefix("job_")
    await refused(client, {"type": "item_reference", "id": f"msg_{suffix}0000"})
