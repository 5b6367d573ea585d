"""OpenAI's own client against the whole real pipeline: API, Redis, Celery, vLLM."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from jobs.accounts import KeyFile
from tests.conftest import settings_for
from tests.support.processes import Pipeline, pipeline
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = "penstock-tiny"
QUESTION = [{"role": "user", "content": "Tell me about the river."}]


class Service:
    """Where the API is, and a key for it."""

    def __init__(self, running: Pipeline, url: str, key: str) -> None:
        self.running = running
        self.url = url
        self.key = key


@pytest.fixture(scope="module")
def service(
    valkey_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("openai")
    keys = directory / "keys.json"
    settings = settings_for(valkey_server, api={"keys_file": str(keys)})
    key, _ = KeyFile(keys).create("acme")
    with pipeline(settings, directory) as running:
        running.control()
        running.worker()
        api = running.api()
        yield Service(running, f"http://127.0.0.1:{api.settings.api.port}", key)


@pytest.fixture
async def ai(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.key, max_retries=0)
    async with client:
        yield client


@pytest.fixture
async def http(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {service.key}"}
    async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=60) as client:
        yield client


async def test_a_chat_is_answered_in_a_readable_sentence(ai: openai.AsyncOpenAI) -> None:
    answer = await ai.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    text = answer.choices[0].message.content or ""
    assert "river" in text.lower()
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 5
    assert answer.usage.completion_tokens > 5


async def test_a_stream_says_what_the_whole_answer_says(ai: openai.AsyncOpenAI) -> None:
    whole = await ai.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=40
    )
    stream = await ai.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        max_tokens=40,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


async def test_sampling_options_reach_the_model(ai: openai.AsyncOpenAI) -> None:
    async def sampled(seed: int) -> str:
        answer = await ai.completions.create(
            model=MODEL, prompt="The water", max_tokens=24, temperature=1.5, seed=seed
        )
        return answer.choices[0].text

    first, again, other = await asyncio.gather(sampled(1), sampled(1), sampled(2))
    assert first == again
    assert first != other


async def test_a_stop_string_ends_the_text_before_it(ai: openai.AsyncOpenAI) -> None:
    free = await ai.completions.create(
        model=MODEL, prompt="The river", max_tokens=40, temperature=0
    )
    word = free.choices[0].text.split()[4]
    stopped = await ai.completions.create(
        model=MODEL, prompt="The river", max_tokens=40, temperature=0, stop=[word]
    )
    assert stopped.choices[0].finish_reason == "stop"
    assert word not in stopped.choices[0].text
    assert free.choices[0].text.startswith(stopped.choices[0].text)


async def test_two_choices_and_logprobs(ai: openai.AsyncOpenAI) -> None:
    answer = await ai.chat.completions.create(
        model=MODEL, messages=QUESTION, n=2, logprobs=True, top_logprobs=2, max_tokens=8
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert len(choice.logprobs.content) == 8
        assert all(len(token.top_logprobs) >= 2 for token in choice.logprobs.content)


async def test_structured_output_is_valid_json_of_the_schema(ai: openai.AsyncOpenAI) -> None:
    # No object: a model this small fills the gap between two fields with spaces for ever.
    schema = {"type": "string", "enum": ["a deep river", "a calm lake"]}
    answer = await ai.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        max_tokens=200,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "water", "schema": schema, "strict": True},
        },
    )
    assert json.loads(answer.choices[0].message.content or "") in schema["enum"]


async def test_a_prompt_that_is_too_long_is_refused_by_name(ai: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.completions.create(model=MODEL, prompt="water " * 5000, max_tokens=10)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "prompt"


async def test_what_the_model_cannot_do_names_the_field(ai: openai.AsyncOpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.chat.completions.create(model=MODEL, messages=QUESTION, tools=tools)
    assert "tool" in str(refused.value)


async def test_generate_answers_a_first_curl(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/generate", json={"prompt": "The mill", "max_tokens": 12})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) >= {"generated_text", "prompt", "finish_reason", "tokens_generated"}
    assert 0 < body["tokens_generated"] <= 12


async def test_a_job_is_submitted_polled_and_its_result_read(http: httpx2.AsyncClient) -> None:
    asked = {"url": "/v1/chat/completions", "body": {"model": MODEL, "messages": QUESTION}}
    accepted = await http.post("/v1/jobs", json=asked)
    assert accepted.status_code == 202
    done = (await http.get(accepted.headers["Location"], params={"wait": 30})).json()
    assert done["status"] == "completed"
    assert done["usage"]["output_tokens"] > 0
    assert done["result"]["choices"][0]["message"]["content"]


async def test_killing_the_worker_in_mid_stream_is_not_seen_by_the_client(
    service: Service, ai: openai.AsyncOpenAI
) -> None:
    """The stream goes on where it was, with the same greedy text, on a worker started later."""
    asked = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a long story about the mill."}],
        "temperature": 0,
        "max_tokens": 1500,
        "extra_body": {"ignore_eos": True},
    }
    whole = await ai.chat.completions.create(**asked)
    stream = await ai.chat.completions.create(**asked, stream=True)
    text, killed = "", False
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if len(text) > 200 and not killed:
            killed = True
            victim = next(p for p in service.running.processes if p.name == "worker")
            victim.signal(signal.SIGKILL)
            service.running.begin_worker()
    assert killed
    assert text == whole.choices[0].message.content

    async def ready() -> bool:
        again = await ai.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4)
        return bool(again.choices)

    await eventually(ready, timeout=60)
