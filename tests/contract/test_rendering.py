"""Large and slow prompts on real vLLM: rendered apart, with the same result, and within limits."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psutil
import pytest

from core.errors import InvalidJob
from tests.contract.driver import Driver, chat, completion
from tests.support.machine import bound
from tests.support.waiting import eventually
from workers.engines.base import Generation

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]

#: Rounds of the template's work that take longer than the engine's limit of a second.
ENDLESS = 100_000
SENTENCE = "The river runs from the hills to the sea, and 12 small boats follow it. "
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def slow(work: int = ENDLESS) -> dict[str, Any]:
    """Return a request whose template has much work."""
    return chat("Hello", chat_template_kwargs={"work": work})


def helpers(vllm: Driver) -> list[psutil.Process]:
    """Return the render helpers of an engine."""
    engine: Any = vllm.engine
    return [psutil.Process(pid) for pid in engine._remote.pool.pids]


async def rendering(vllm: Driver) -> None:
    """Wait until a helper works."""

    async def working() -> bool:
        return any(helper.children() for helper in helpers(vllm))

    await eventually(working)


@pytest.mark.parametrize(
    "body",
    [
        chat(SENTENCE * 3),
        chat("Gruß 🙂 <s> <|end|> \u2028 " * 10, tools=[TOOL]),
        chat([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
            ]
        },
        completion(SENTENCE * 3),
        completion("x", structured_outputs={"choice": ["yes"]}),
        completion(SENTENCE * 3, truncate_prompt_tokens=5),
        completion([SENTENCE * 3, "x"], structured_outputs={"choice": ["yes"]}),
        completion([5, 6, 7] * 100),
    ],
    ids=[
        "text",
        "special",
        "parts",
        "tools",
        "completion",
        "grammar",
        "truncated",
        "several",
        "ids",
    ],
)
async def test_a_prompt_rendered_apart_is_the_same(vllm: Driver, body: dict[str, Any]) -> None:
    engine: Any = vllm.engine
    front, endpoint = (
        engine._thread.front,
        "completions" if "prompt" in body else "chat/completions",
    )
    generation = Generation("g", f"/v1/{endpoint}", body)
    near: Any = front.render(generation)
    far: Any = await engine._remote.run(
        generation, lambda remote: front.render_apart(generation, remote)
    )

    def ids(prepared: Any) -> list[int]:
        if hasattr(prepared, "source"):
            return list(prepared.prompts[0].inputs["prompt_token_ids"])
        return list(prepared.choices[0].request.prompt_token_ids)

    assert ids(far) == ids(near)
    assert type(far) is type(near)


async def waits_of_others(vllm: Driver, until: Callable[[], bool]) -> list[float]:
    """Send small requests of another account until something has happened; return their times."""
    waits = []
    while not until():
        began = time.monotonic()
        await vllm.ended(await vllm.add(chat("Hi", max_tokens=1), account="small"))
        waits.append(time.monotonic() - began)
    return waits


async def test_a_slow_prompt_is_stopped_and_delays_no_other_account(vllm: Driver) -> None:
    await vllm.run(chat("Hello", chat_template_kwargs={"work": 1}))  # a helper runs
    left = iter(range(10))
    before = await waits_of_others(vllm, lambda: next(left, None) is None)
    stream = await vllm.add(completion("The river", max_tokens=1500, ignore_eos=True), account="b")
    await vllm.tokens(stream, 1)
    task = asyncio.create_task(vllm.add(slow(), account="a"))
    await rendering(vllm)
    outputs = vllm.jobs[stream].choices[0].outputs
    steps = len(outputs)
    meanwhile = await waits_of_others(vllm, task.done)
    await vllm.engine.abort(stream)

    with pytest.raises(InvalidJob, match="takes more than 1 s to render"):
        await task
    assert len(outputs) > steps + 5
    assert len(meanwhile) > 1
    assert max(meanwhile) < bound(0.5), (meanwhile, before)  # one that waited would need a second
    assert median(meanwhile) < 3 * median(before) + bound(0.1), (meanwhile, before)


async def test_the_error_of_a_template_is_the_same_from_a_helper(vllm: Driver) -> None:
    for arguments in ({"refusal": "only today"}, {"refusal": "only today", "work": 1}):
        with pytest.raises(InvalidJob, match="only today") as caught:
            await vllm.add(chat("x", chat_template_kwargs=arguments))
        assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("indent", "reason"), [(9_000_000, "is longer than 8000000"), (10**12, "bytes to render")]
)
async def test_a_prompt_that_grows_without_end_is_refused(
    vllm: Driver, indent: int, reason: str
) -> None:
    with pytest.raises(InvalidJob, match=reason):
        await vllm.add(chat("x", chat_template_kwargs={"indent": indent}))


async def test_text_that_is_no_unicode_is_the_clients_fault(vllm: Driver) -> None:
    for text in ("\ud83d", "\ud83d" + SENTENCE * 4):
        with pytest.raises(InvalidJob, match="TextInputSequence"):
            await vllm.add(chat(text))


async def test_an_aborted_request_stops_being_rendered(vllm: Driver) -> None:
    task = asyncio.create_task(vllm.add(slow()))
    await rendering(vllm)
    forks = [fork for helper in helpers(vllm) for fork in helper.children()]
    await vllm.engine.abort(f"{vllm.name}-{len(vllm.jobs) - 1}")

    async def gone() -> bool:
        return not any(fork.is_running() for fork in forks)

    await task
    await eventually(gone)


async def test_a_killed_render_helper_costs_no_request(vllm: Driver) -> None:
    for helper in helpers(vllm):
        helper.send_signal(signal.SIGKILL)

    assert (await vllm.run(chat("Hello", chat_template_kwargs={"work": 1}))).text


async def test_accounts_take_turns_at_a_helper(vllm: Driver) -> None:
    order: list[str] = []

    async def add(account: str) -> None:
        await vllm.ended(
            await vllm.add(
                chat("x", max_tokens=1, chat_template_kwargs={"work": 4000}), account=account
            )
        )
        order.append(account)

    many = [asyncio.create_task(add("many")) for _ in range(4)]
    await rendering(vllm)
    await asyncio.gather(add("one"), *many)

    assert order.index("one") <= 2


async def test_the_wait_for_a_large_request_with_many_messages_is_short(vllm: Driver) -> None:
    messages = [{"role": "user", "content": "a"} for _ in range(400)]
    body = {"messages": messages, "max_tokens": 1, "temperature": 0}
    name = await vllm.add(json.loads(json.dumps(body)))

    assert (await vllm.ended(name)).error is None
