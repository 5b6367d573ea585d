"""OpenAI's own client against the whole real pipeline: API, Redis, Celery, vLLM."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest
from pydantic import BaseModel

from tests.conftest import settings_for
from tests.support.commands import bash, page_commands
from tests.support.environment import inherited
from tests.support.keys import make_key, sqlite_in
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
    settings = settings_for(valkey_server, database=sqlite_in(directory), log={"level": "DEBUG"})
    key = make_key(settings)
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


class Water(BaseModel):
    """What the model is made to answer with."""

    kind: Literal["a deep river", "a calm lake"]


async def test_answers_are_parsed_into_the_clients_own_types(ai: openai.AsyncOpenAI) -> None:
    chat = await ai.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Water, max_tokens=300, temperature=0
    )
    assert isinstance(chat.choices[0].message.parsed, Water)
    response = await ai.responses.parse(
        model=MODEL,
        input="Tell me about the river.",
        text_format=Water,
        max_output_tokens=300,
        temperature=0,
    )
    assert isinstance(response.output_parsed, Water)


async def test_a_response_says_what_the_chat_says_whole_and_streamed(
    ai: openai.AsyncOpenAI,
) -> None:
    chat = await ai.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=20, logprobs=True, top_logprobs=2
    )
    asked = {
        "model": MODEL,
        "input": QUESTION[0]["content"],
        "temperature": 0,
        "max_output_tokens": 20,
        "top_logprobs": 2,
    }
    whole = await ai.responses.create(**asked)
    assert whole.output_text == chat.choices[0].message.content
    assert whole.usage is not None
    assert chat.usage is not None
    assert whole.usage.total_tokens == chat.usage.total_tokens
    part = whole.output[0].content[0]
    probabilities = [(one.token, one.logprob) for one in part.logprobs]
    assert chat.choices[0].logprobs is not None
    kept = chat.choices[0].logprobs.content or []
    assert probabilities == [(one.token, one.logprob) for one in kept]
    stream = await ai.responses.create(**asked, stream=True, background=True)
    events = [event async for event in stream]
    assert events[-1].response.output == (await ai.responses.retrieve(events[0].response.id)).output
    rest = await ai.responses.retrieve(
        events[0].response.id, stream=True, starting_after=events[4].sequence_number
    )
    assert [event async for event in rest] == events[5:]


async def test_a_response_goes_on_from_an_earlier_one(ai: openai.AsyncOpenAI) -> None:
    first = await ai.responses.create(model=MODEL, input="What is a mill?", temperature=0)
    second = await ai.responses.create(
        model=MODEL,
        input="Tell me about the river.",
        previous_response_id=first.id,
        temperature=0,
        max_output_tokens=20,
    )
    chat = await ai.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "What is a mill?"},
            {"role": "assistant", "content": first.output_text},
            *QUESTION,
        ],
        temperature=0,
        max_tokens=20,
    )
    assert second.output_text == chat.choices[0].message.content
    assert second.usage is not None
    assert chat.usage is not None
    assert second.usage.input_tokens == chat.usage.prompt_tokens


async def test_seeds_choices_and_biases_reach_the_engine(ai: openai.AsyncOpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 12, "n": 3, "seed": 7}
    one, again = [await ai.chat.completions.create(**asked) for _ in range(2)]
    texts = [choice.message.content for choice in one.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(texts) == 3
    greedy = {"model": MODEL, "prompt": "The mill", "max_tokens": 1, "temperature": 0}
    plain = await ai.completions.create(**greedy, logprobs=1)
    job = plain.id.replace("cmpl-", "job_")
    raw = await ai.get(f"/jobs/{job}/stream?starting_after=0", cast_to=httpx2.Response)
    token = re.findall(r'"token_ids":\[(\d+)', raw.text)[0]
    biased = await ai.completions.create(**greedy, logit_bias={token: -100})
    assert biased.choices[0].text != plain.choices[0].text


def test_the_commands_of_the_documentation_run(service: Service) -> None:
    """Every command of the flows that docs/api.md shows from here; one that fails stops it."""
    commands = page_commands("Jobs", "OpenAI routes", "Responses", "Errors")
    assert len(commands) >= 7
    done = bash(*commands, env={**inherited(), "URL": service.url, "KEY": service.key})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    refusals = re.findall(r'"code":"([a-z_-]+)"', done.stdout)
    assert refusals == ["invalid_job", "job-not-found"], done.stdout
    assert '"deleted":true' in done.stdout
    assert "event: response.completed" in done.stdout


async def test_a_prompt_that_is_too_long_is_refused_by_name(ai: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.completions.create(model=MODEL, prompt="water " * 5000, max_tokens=10)
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "prompt"


async def test_what_the_model_cannot_do_names_the_field(ai: openai.AsyncOpenAI) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    question: Any = [{"role": "user", "content": [picture]}]
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.chat.completions.create(model=MODEL, messages=question)
    assert refused.value.param == "messages[0].content[0]"


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


async def test_at_debug_no_process_logs_a_word_of_prompt_or_output(
    service: Service, ai: openai.AsyncOpenAI
) -> None:
    question: list[Any] = [{"role": "user", "content": "xyzzy-marker: what is a river?"}]
    answer = await ai.chat.completions.create(
        model=MODEL, messages=question, max_tokens=30, temperature=0, extra_body={"min_tokens": 30}
    )
    text = answer.choices[0].message.content or ""
    assert len(text) > 20
    logs = {process.name: process.output() for process in service.running.processes}
    assert {"api", "worker", "control"} <= set(logs)
    for name, log in logs.items():
        assert "xyzzy-marker" not in log, name
        assert text[:20] not in log, name
    # What is not Python's logging cannot be shaped: a line or two of torch's C++.
    unshaped = [line for line in logs["worker"].splitlines() if not line.startswith("{")]
    assert all(re.match(r"\[[WI]\d{4}", line) for line in unshaped), unshaped
