"""What every engine's tokeniser promises, and that vLLM's is the model's own, here or apart."""

import asyncio
from typing import Any

import pytest

from core.errors import InvalidJob
from core.ids import new_id
from jobs.tokenising.messages import Kind, TokeniserAnswer, TokeniserRequest
from tests.contract.driver import Driver, chat, completion

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]

SENTENCE = "The river runs from the hills to the sea, and 12 small boats follow it. "
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
#: Short ones are handled in the engine's process, long ones in a helper (200 characters).
SHORT, LONG = SENTENCE, SENTENCE * 10
TEXTS = pytest.mark.parametrize("text", [SHORT, LONG, "Gruß 🙂 \u2028", ""], ids=str.__len__)


async def ask(driver: Driver, kind: Kind, **body: Any) -> TokeniserAnswer:
    """Ask an engine's tokeniser."""
    request = TokeniserRequest(new_id("tok"), "api", "acme", kind, body)
    return await driver.engine.tokenise(request)


def own(driver: Driver) -> Any:
    """Return the tokeniser of a vLLM engine."""
    engine: Any = driver.engine
    return engine._thread.front.renderer.get_tokenizer()


@pytest.mark.parametrize(
    "body",
    [
        chat("What is a penstock?"),
        chat(LONG),
        chat([{"type": "text", "text": "Count to 12."}]),
        {"messages": [*chat("x")["messages"], {"role": "assistant", "content": "A mill"}]},
        chat("x", chat_template_kwargs={"enable_thinking": False}),
    ],
    ids=["short", "long", "parts", "answered", "arguments"],
)
async def test_a_chat_counts_as_many_tokens_as_its_job_has(
    driver: Driver, body: dict[str, Any]
) -> None:
    job = driver.jobs[await driver.add({**body, "max_tokens": 1})]
    assert job.accepted is not None
    counted = await ask(driver, "count", **body)
    assert (counted.count, counted.token_ids) == (job.accepted.input_tokens, ())


async def test_a_chat_that_no_job_could_have_is_counted_too(driver: Driver) -> None:
    assert (await ask(driver, "count", **chat(SENTENCE * 300))).count > driver.info.max_model_len


async def test_a_text_has_as_many_tokens_as_its_job_has(driver: Driver) -> None:
    for text in (SHORT, LONG):
        job = driver.jobs[await driver.add(completion(text, max_tokens=1))]
        assert job.accepted is not None
        found = await ask(driver, "tokenize", prompt=text)
        assert len(found.token_ids) == found.count == job.accepted.input_tokens


async def test_what_a_tokeniser_cannot_do_is_refused_by_name(driver: Driver) -> None:
    with pytest.raises(InvalidJob) as refused:
        await ask(driver, "detokenize", tokens=[10**9])
    assert refused.value.param == "tokens"
    newer: Any = "embed"
    with pytest.raises(InvalidJob, match="embed"):
        await ask(driver, newer, prompt="a")


@TEXTS
@pytest.mark.parametrize("special", [True, False])
async def test_vllm_tokenises_as_the_model_does(vllm: Driver, text: str, special: bool) -> None:
    found = await ask(
        vllm, "tokenize", prompt=text, add_special_tokens=special, return_token_strs=True
    )
    token_ids = own(vllm).encode(text, add_special_tokens=special)
    assert list(found.token_ids) == token_ids
    assert found.token_texts == own(vllm).convert_ids_to_tokens(token_ids)
    back = await ask(vllm, "detokenize", tokens=token_ids)
    assert back.text == own(vllm).decode(token_ids)


@pytest.mark.parametrize("content", ["Hi", LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"add_generation_prompt": False},
        {"add_generation_prompt": False, "continue_final_message": True},
        {"add_special_tokens": True},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"tools": [TOOL]},
    ],
    ids=lambda value: "-".join(value) or "plain",
)
async def test_vllm_tokenises_a_chat_as_its_template_renders_it(
    vllm: Driver, content: str, fields: dict[str, Any]
) -> None:
    engine: Any = vllm.engine
    messages = chat(content)["messages"]
    found = await ask(vllm, "tokenize", messages=messages, **fields)
    text = own(vllm).apply_chat_template(
        messages,
        chat_template=engine._thread.front._online.chat_template,
        tokenize=False,
        tools=fields.get("tools"),
        add_generation_prompt=fields.get("add_generation_prompt", True),
        continue_final_message=fields.get("continue_final_message", False),
        **fields.get("chat_template_kwargs", {}),
    )
    special = fields.get("add_special_tokens", False)
    assert list(found.token_ids) == own(vllm).encode(text, add_special_tokens=special)


async def test_a_client_cannot_bring_a_template(vllm: Driver) -> None:
    messages, template = chat("Hi")["messages"], "{% for m in messages %}{{ m.role }}{% endfor %}"
    for fields in (
        {"chat_template": template},
        {"chat_template_kwargs": {"chat_template": template}},
    ):
        for kind in ("tokenize", "count"):
            with pytest.raises(InvalidJob, match="template"):
                await ask(vllm, kind, messages=messages, **fields)


async def test_vllm_refuses_two_ways_to_end_a_chat(vllm: Driver) -> None:
    both = {"add_generation_prompt": True, "continue_final_message": True}
    with pytest.raises(InvalidJob):
        await ask(vllm, "tokenize", messages=chat("Hi")["messages"], **both)


async def test_small_requests_do_not_wait_for_all_slow_ones_of_another_account(
    vllm: Driver,
) -> None:
    """As in `test_rendering`, a template with much work takes a helper's whole second."""
    slow = {**chat("Hello"), "chat_template_kwargs": {"work": 100_000}}
    busy = [asyncio.create_task(ask(vllm, "tokenize", **slow)) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(5):
        small = TokeniserRequest(new_id("tok"), "api", "other", "tokenize", {"prompt": SHORT})
        assert (await vllm.engine.tokenise(small)).count > 0
    assert not all(task.done() for task in busy)
    for task in busy:
        with pytest.raises(InvalidJob, match="takes more than"):
            await task


async def test_requests_to_the_tokeniser_do_not_wait_for_a_slot(driver: Driver) -> None:
    body = completion("A mill is", ignore_eos=True, max_tokens=1900)
    names = [await driver.add(body) for _ in range(driver.info.slots + 2)]
    assert (await ask(driver, "tokenize", prompt=SHORT)).count > 0
    assert not any(driver.jobs[name].ended(1) for name in names)
    for name in names:
        await driver.engine.abort(name)
