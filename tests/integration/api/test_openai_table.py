"""The tables of OpenAI calls and parameters in docs/api.md agree with the API."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
import pytest
from openai.types import completion_create_params as text_params
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params

from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    CONTEXT,
    MODEL,
    Hand,
    Keys,
    RunningApi,
    connect,
    make_keys,
    one_api,
)
from tests.support.keys import sqlite_in
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "api.md").read_text()
CLIENT_TESTS = [
    (ROOT / "tests" / "clients" / "test_python.py").read_text(),
    (ROOT / "tests" / "e2e" / "test_openai_on_vllm.py").read_text(),
    *(path.read_text() for path in (ROOT / "tests").rglob("test_*batch*.py")),
    *(path.read_text() for path in (ROOT / "tests").rglob("test_*file*.py")),
]
NAMES = re.compile(r"`([a-z_.]+)`")


class Row(NamedTuple):
    """What the page says about one name."""

    name: str
    status: str


def table(head: str) -> list[Row]:
    """Read the table whose first column has this head."""
    lines = PAGE.partition(f"| {head} | status |\n|---|---|\n")[2].split("\n\n")[0].splitlines()
    assert lines, f"docs/api.md has no table of {head}"
    cells = [line.strip("| ").split(" | ") for line in lines]
    return [Row(name, status) for names, status in cells for name in NAMES.findall(names)]


ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
PARAMETERS = [(url, *row) for url in ROUTES for row in table(f"parameters of `POST {url}`")]
CALLS = table("call")
KNOWN: dict[str, Any] = {
    ROUTES[0]: chat_params.CompletionCreateParamsBase,
    ROUTES[1]: text_params.CompletionCreateParamsBase,
    ROUTES[2]: response_create_params.ResponseCreateParamsBase,
    ROUTES[3]: embedding_create_params.EmbeddingCreateParams,
}

EMBEDDER = "embedder"
TOOL: dict[str, Any] = {"name": "f", "parameters": {"type": "object"}}
TOOLS = {
    ROUTES[0]: [{"type": "function", "function": TOOL}],
    ROUTES[2]: [{"type": "function", **TOOL}],
}
#: A value of each parameter, and what it needs beside it.
SAMPLES: dict[str, dict[str, Any]] = {
    "access_programs": {"access_programs": {}},
    "audio": {"audio": {"voice": "x", "format": "mp3"}},
    "background": {"background": True},
    "background_options": {"background_options": {}},
    "best_of": {"best_of": 2},
    "context_management": {"context_management": [{"type": "compaction"}]},
    "conversation": {"conversation": "conv_1"},
    "dimensions": {"dimensions": 64},
    "echo": {"echo": True},
    "encoding_format": {"encoding_format": "base64"},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "function_call": {"functions": [TOOL], "function_call": "auto"},
    "functions": {"functions": [TOOL]},
    "image": {"image": {}},
    "include": {"include": ["message.output_text.logprobs"]},
    "input": {"input": [{"role": "user", "content": "hi"}]},
    "instructions": {"instructions": "Be brief."},
    "logit_bias": {"logit_bias": {"5": 1}},
    "max_completion_tokens": {"max_completion_tokens": 5},
    "max_output_tokens": {"max_output_tokens": 5},
    "max_tokens": {"max_tokens": 5},
    "max_tool_calls": {"max_tool_calls": 2},
    "messages": {"messages": [{"role": "user", "content": "hi"}]},
    "metadata": {"metadata": {"a": "b"}},
    "modalities": {"modalities": ["text"]},
    "model": {"model": MODEL},
    "moderation": {"moderation": {"model": "x"}},
    "n": {"n": 2},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "prediction": {"prediction": {"type": "content", "content": "x"}},
    "presence_penalty": {"presence_penalty": 0.5},
    "prompt": {"prompt": "hi"},
    "prompt_cache_key": {"prompt_cache_key": "k"},
    "prompt_cache_options": {"prompt_cache_options": {"mode": "explicit"}},
    "prompt_cache_retention": {"prompt_cache_retention": "24h"},
    "reasoning": {"reasoning": {"effort": "low"}},
    "reasoning_effort": {"reasoning_effort": "low"},
    "response_format": {"response_format": {"type": "json_object"}},
    "safety_identifier": {"safety_identifier": "u"},
    "seed": {"seed": 1},
    "service_tier": {"service_tier": "flex"},
    "stop": {"stop": ["x"]},
    "store": {"store": True},
    "stream": {"stream": True},
    "stream_options": {"stream": True, "stream_options": {"include_obfuscation": False}},
    "suffix": {"suffix": "x"},
    "temperature": {"temperature": 0.5},
    "text": {"text": {"format": {"type": "json_object"}}},
    "tool_choice": {"tools": ..., "tool_choice": "required"},
    "tools": {"tools": ...},
    "top_p": {"top_p": 0.5},
    "truncation": {"truncation": "auto"},
    "user": {"user": "u"},
    "verbosity": {"verbosity": "low"},
    "web_search_options": {"web_search_options": {}},
}
NEEDED: dict[str, dict[str, Any]] = {
    ROUTES[0]: {"messages": [{"role": "user", "content": "hello"}]},
    ROUTES[1]: {"prompt": "hello"},
    ROUTES[2]: {"input": "hello"},
    ROUTES[3]: {"input": "hello"},
}


def sample(url: str, name: str) -> dict[str, Any]:
    """Return a body with this parameter set."""
    if name == "logprobs":
        fields: dict[str, Any] = {"logprobs": True if url == ROUTES[0] else 2}
    elif name == "top_logprobs":
        fields = {"top_logprobs": 2, **({"logprobs": True} if url == ROUTES[0] else {})}
    else:
        fields = dict(SAMPLES[name])
    if "tools" in fields:
        fields["tools"] = TOOLS[url]
    if url == ROUTES[3] and name == "input":
        fields = {"input": ["hi", "you"]}
    model = EMBEDDER if url == ROUTES[3] else MODEL
    return {**NEEDED[url], **fields, "model": model}


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    directory = tmp_path_factory.mktemp("table")
    return settings_for(redis_server, api={"port": 0}, database=sqlite_in(directory))


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture
async def http(api: RunningApi, keys: Keys, store: JobStore) -> AsyncIterator[httpx2.AsyncClient]:
    model = ServedModel(EMBEDDER, CONTEXT, "by hand", 1_700_000_000, "embed")
    await ModelRegistry(store.redis, store.keys).register(model)
    async with connect(api, keys.acme) as opened:
        yield opened


@pytest.mark.parametrize("url", ROUTES)
def test_the_page_knows_every_parameter_of_the_client(url: str) -> None:
    told = [name for where, name, _ in PARAMETERS if where == url]
    assert len(told) == len(set(told))
    streams = {"stream"} if url != ROUTES[3] else set()
    assert set(told) == {*KNOWN[url].__annotations__} | streams


def test_the_page_knows_every_resource_of_the_client() -> None:
    client = openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9")
    resources = {
        name
        for name in dir(client)
        if not name.startswith(("_", "with_"))
        and type(getattr(client, name)).__module__.startswith("openai.resources")
    }
    told = {row.name.split(".")[0] for row in CALLS}
    other = {"webhooks"}  # only checks what it is given
    other |= {"admin", "live", "safety", "decisions", "content_provenance_checks"}
    assert resources - other <= told
    served = ("chat.completions", "completions", "responses", "models", "embeddings")
    for resource in (*served, "files", "batches"):
        methods: Any = client
        for name in resource.split("."):
            methods = getattr(methods, name)
        public = {name for name in dir(methods) if not name.startswith(("_", "with_", "connect"))}
        assert {f"{resource}.{name}" for name in public} <= {row.name for row in CALLS}


@pytest.mark.parametrize(("url", "name", "status"), PARAMETERS, ids=lambda value: str(value)[:30])
async def test_a_parameter_is_treated_as_the_page_says(
    http: httpx2.AsyncClient, store: JobStore, url: str, name: str, status: str
) -> None:
    if name == "previous_response_id":
        first = await http.post(url, json={"model": MODEL, "input": "hi", "background": True})
        hand = Hand(store)
        while (job := await hand.take()).id != first.headers["x-penstock-job"]:
            await hand.answer(job, "a")
        await hand.answer(job, "earlier")
        body = {"model": MODEL, "input": "hi", name: first.json()["id"]}
    else:
        body = sample(url, name)
    answer = await http.post(url, json=body, headers={"Prefer": "respond-async"})
    if status.startswith("refused"):
        code = NAMES.findall(status)[0]
        assert status.split()[1] == str(answer.status_code)
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, name)
        return
    assert answer.status_code == 202, answer.text
    if "the engine gets it" in status:
        plain = {"model": body["model"], **NEEDED[url]}
        other = await http.post(url, json=plain, headers={"Prefer": "respond-async"})
        found = [await store.get(one.json()["id"], "acme") for one in (answer, other)]
        given = name in ("model", *NEEDED[url])
        assert given or found[0].spec.body != found[1].spec.body


REFUSED_CALLS: dict[str, tuple[str, str]] = {
    "chat.completions.list": ("GET", "/v1/chat/completions"),
    "chat.completions.retrieve": ("GET", "/v1/chat/completions/chatcmpl-x"),
    "chat.completions.update": ("POST", "/v1/chat/completions/chatcmpl-x"),
    "chat.completions.delete": ("DELETE", "/v1/chat/completions/chatcmpl-x"),
    "chat.completions.messages": ("GET", "/v1/chat/completions/chatcmpl-x/messages"),
    "responses.compact": ("POST", "/v1/responses/compact"),
    "models.delete": ("DELETE", f"/v1/models/{MODEL}"),
    "audio": ("POST", "/v1/audio/speech"),
    "beta": ("POST", "/v1/assistants"),
    "fine_tuning": ("POST", "/v1/fine_tuning/jobs"),
    "images": ("POST", "/v1/images/generations"),
    "realtime": ("POST", "/v1/realtime/client_secrets"),
}


@pytest.mark.parametrize(("name", "status"), CALLS)
async def test_a_call_is_served_or_refused_as_the_page_says(
    http: httpx2.AsyncClient, name: str, status: str
) -> None:
    if status.startswith("works: the client's own readers over"):
        over = NAMES.findall(status)
        assert all(any(row.name.endswith(one) for row in CALLS) for one in over)
        return
    if status.startswith("works"):
        assert any(f'"{name}' in text or f".{name}(" in text for text in CLIENT_TESTS), name
        return
    method, path = REFUSED_CALLS.get(name, ("POST", f"/v1/{name.split('.', maxsplit=1)[0]}"))
    body = {"model": MODEL, "input": "hello"}
    answer = await http.request(method, path, json=body if method == "POST" else None)
    assert status.split()[1] == str(answer.status_code)
    assert answer.json()["error"]["code"] == NAMES.findall(status)[0]
