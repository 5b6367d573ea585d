"""The tables of vLLM's parameters in docs/api.md agree with the API."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args, get_origin

import httpx2
import pytest
from pydantic import BaseModel

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    MODEL,
    Keys,
    RunningApi,
    connect,
    make_keys,
    one_api,
)
from tests.integration.api.test_openai_table import NEEDED, PAGE, ROUTES, TOOLS, table
from tests.support.keys import sqlite_in
from tests.support.redis_server import RedisServer
from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.leniency import ignored_fields
from wire.schemas.responses import ResponseRequest

CHAT, TEXT, RESPONSES, _ = ROUTES
SCHEMAS = {CHAT: ChatRequest, TEXT: CompletionRequest, RESPONSES: ResponseRequest}
PARAMETERS = [(url, *row) for url in SCHEMAS for row in table(f"vLLM's parameters of `POST {url}`")]
ASYNC = {"Prefer": "respond-async"}
PIXEL = "data:image/png;base64,iVBORw0KGgo="

SAMPLES: dict[str, Any] = {
    "add_generation_prompt": False,
    "add_special_tokens": True,
    "allowed_token_ids": [5],
    "bad_words": ["x"],
    "cache_salt": "salt",
    "chat_template": "{{ 1 }}",
    "chat_template_kwargs": {"a": 1},
    "continue_final_message": True,
    "documents": [{"title": "a", "text": "b"}],
    "ec_transfer_params": {"a": 1},
    "echo": True,
    "enable_response_messages": True,
    "frequency_penalty": 0.5,
    "ignore_eos": True,
    "include_reasoning": False,
    "include_stop_str_in_output": True,
    "kv_transfer_params": {"a": 1},
    "length_penalty": 2.0,
    "logit_bias": {"5": 1},
    "logprob_token_ids": [5],
    "media_io_kwargs": {"video": {"num_frames": 2}},
    "min_p": 0.1,
    "min_tokens": 2,
    "mm_payload": "none",
    "mm_processor_kwargs": {"num_crops": 4},
    "presence_penalty": 0.5,
    "previous_input_messages": [{"role": "user", "content": "x"}],
    "priority": 5,
    "prompt_embeds": "AAAA",
    "prompt_logprobs": 0,
    "repetition_detection": {"max_pattern_size": 4, "min_count": 3},
    "repetition_penalty": 1.1,
    "request_id": "mine",
    "response_format": {"type": "json_object"},
    "return_mm_kwargs": True,
    "return_prompt_text": True,
    "return_token_ids": True,
    "return_token_offsets": True,
    "return_tokens_as_token_ids": True,
    "routed_experts_prompt_start": 1,
    "seed": 7,
    "session_id": "s",
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "stop": ["x"],
    "stop_token_ids": [5],
    "stream_interval": 4,
    "structured_outputs": {"json_object": True},
    "thinking_token_budget": 5,
    "top_k": 5,
    "truncate_prompt_tokens": 10,
    "truncation_side": "left",
    "use_beam_search": True,
    "vllm_xargs": {"a": 1, "b": ["c", 2.5]},
    "watermarking": True,
}


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    directory = tmp_path_factory.mktemp("vllm-table")
    return settings_for(redis_server, api={"port": 0}, database=sqlite_in(directory))


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture
async def http(api: RunningApi, keys: Keys, store: JobStore) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(api, keys.acme) as opened:
        yield opened


async def stored(http: httpx2.AsyncClient, store: JobStore, url: str, body: Any) -> Any:
    """Submit a body and return what workers get."""
    answer = await http.post(url, json={"model": MODEL, **body}, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return (await store.get(answer.json()["id"], "acme")).spec.body


@pytest.mark.parametrize(("url", "name", "status"), PARAMETERS, ids=lambda value: str(value)[:30])
async def test_a_parameter_of_vllm_is_treated_as_the_page_says(
    http: httpx2.AsyncClient, store: JobStore, url: str, name: str, status: str
) -> None:
    body = {**NEEDED[url], name: SAMPLES[name]}
    if status.startswith("refused"):
        answer = await http.post(url, json={"model": MODEL, **body}, headers=ASYNC)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "unsupported_parameter")
        assert error["param"] == name
        nothings: list[Any] = [None, False, []]
        for nothing in nothings:
            assert name not in await stored(http, store, url, body | {name: nothing})
        return
    kept = await stored(http, store, url, body)
    assert (name in kept) == ("the engine gets it" in status)
    if name != "cache_salt" and name in kept:
        assert kept[name] == SAMPLES[name]


def ignored_paths(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of each field below `kind` that has no effect."""
    if get_origin(kind) is list:
        yield from ignored_paths(get_args(kind)[0], prefix + "[]")
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        if prefix:
            yield from (f"{prefix}.{name}" for name in ignored_fields(kind))
        for name, field in kind.model_fields.items():
            yield from ignored_paths(field.annotation, f"{prefix}.{name}".lstrip("."))
    else:
        for part in get_args(kind):
            yield from ignored_paths(part, prefix)


def test_the_page_lists_every_ignored_field_inside_a_body() -> None:
    rows = PAGE.partition("| inside a body | status |\n")[2].split("\n\n")[0].splitlines()
    told = {
        name
        for row in rows
        if row.endswith("| accepted, without effect |")
        for name in re.findall(r"`([a-z_.\[\]]+)`", row)
    }
    of_chat = set(ignored_paths(ChatRequest)) | set(ignored_paths(CompletionRequest))
    of_responses = {path for path in ignored_paths(ResponseRequest) if not path.startswith("tools")}
    assert told == of_chat | of_responses


async def test_what_is_ignored_inside_a_chat_does_not_reach_workers(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    extra = {"cache_control": {"type": "ephemeral"}, "provider_specific_fields": {"a": 1}}
    text = {"type": "text", "text": "hi"}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tool = TOOLS[CHAT][0]
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [text]},
        {"role": "assistant", "content": [], "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": []},
    ]
    decorated = [
        {**plain[0], "id": "m0", **extra},
        {**plain[1], "id": "m1", "metadata": {}, "content": [{**text, "id": "p", **extra}]},
        {
            **plain[2],
            "id": "m2",
            "thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": "y"}],
            "reasoning_details": [{"type": "reasoning.text", "text": "x"}],
            "tool_calls": [{**call, **extra, "extra_content": {"google": {}}}],
        },
        {**plain[3], "id": "m3", **extra},
    ]
    function = {**tool["function"], "cache_control": extra["cache_control"]}
    sent = {
        "messages": decorated,
        "tools": [{**tool, "function": function, "defer_loading": False}],
    }
    assert (await stored(http, store, CHAT, sent)) == {
        "model": MODEL,
        "messages": plain,
        "tools": [tool],
    }


async def test_numbers_may_be_text_and_are_stored_as_numbers(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    sent = {"max_tokens": "10", "n": 2.0, "temperature": "0.5", "ignore_eos": "true", "seed": "7"}
    meant = {"max_tokens": 10, "n": 2, "temperature": 0.5, "ignore_eos": True, "seed": 7}
    for url in (CHAT, TEXT):
        kept = await stored(http, store, url, NEEDED[url] | sent)
        assert {name: kept[name] for name in meant} == meant
        assert [type(kept[name]) for name in meant] == [type(value) for value in meant.values()]
    for name, value in (("max_tokens", "ten"), ("max_tokens", 1.5), ("temperature", "nan")):
        body = {"model": MODEL, **NEEDED[CHAT], name: value}
        answer = await http.post(CHAT, json=body, headers=ASYNC)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


async def test_metadata_that_is_not_text_is_stored_as_json(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    metadata = {"run": 7, "tags": ["a"], "on": True, "user": None, "name": "x"}
    body = {"model": MODEL, **NEEDED[CHAT], "metadata": metadata}
    answer = await http.post(CHAT, json=body, headers=ASYNC)
    kept = {"run": "7", "tags": '["a"]', "on": "true", "name": "x"}
    assert (answer.status_code, answer.json()["metadata"]) == (202, kept)


async def test_two_accounts_with_the_same_salt_have_different_caches(
    http: httpx2.AsyncClient, store: JobStore, api: RunningApi, keys: Keys
) -> None:
    body = {"model": MODEL, **NEEDED[CHAT], "cache_salt": "same"}
    salts = [(await stored(http, store, CHAT, body))["cache_salt"] for _ in range(2)]
    async with connect(api, keys.other) as other:
        answer = await other.post(CHAT, json=body, headers=ASYNC)
    theirs = (await store.get(answer.json()["id"], "other")).spec.body["cache_salt"]
    assert salts[0] == salts[1] != theirs
    assert "same" not in (*salts, theirs)


@pytest.mark.parametrize("name", ["mm_processor_kwargs", "media_io_kwargs"])
async def test_settings_of_media_are_refused_with_media(
    http: httpx2.AsyncClient, store: JobStore, name: str
) -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    chat = {"messages": [{"role": "user", "content": [image]}], name: SAMPLES[name]}
    content = [{"type": "input_image", "image_url": PIXEL}]
    response = {"input": [{"role": "user", "content": content}], name: SAMPLES[name]}
    for url, body in ((CHAT, chat), (RESPONSES, response)):
        answer = await http.post(url, json={"model": MODEL, **body}, headers=ASYNC)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (
            400,
            "unsupported_parameter",
            name,
        )


@pytest.mark.parametrize(
    "form",
    [
        {"format": {"type": "const_string", "value": "a"}},
        {
            "structures": [{"begin": "<f>", "schema": {"type": "object"}, "end": "</f>"}],
            "triggers": ["<f"],
        },
    ],
)
async def test_a_structural_tag_reaches_the_engine_within_the_limits(
    http: httpx2.AsyncClient, store: JobStore, form: dict[str, Any]
) -> None:
    tag = {"type": "structural_tag", **form}
    kept = await stored(http, store, CHAT, NEEDED[CHAT] | {"response_format": tag})
    assert kept["response_format"] == tag
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(100):
        deep = {"type": "object", "properties": {"a": deep}}
    tag = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": deep}}
    body = {"model": MODEL, **NEEDED[CHAT], "response_format": tag}
    answer = await http.post(CHAT, json=body, headers=ASYNC)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")


async def test_a_response_may_be_cut_and_asks_for_what_other_servers_have(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    reasoning = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    body = {
        "input": [reasoning, {"role": "user", "content": "hi"}],
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "detailed"},
        "truncation": "auto",
    }
    kept = await stored(http, store, RESPONSES, body)
    assert kept["truncate_prompt_tokens"] == -1
    assert "gAAA" not in str(kept)
    kept = await stored(http, store, RESPONSES, NEEDED[RESPONSES] | {"truncation": "disabled"})
    assert "truncate_prompt_tokens" not in kept
