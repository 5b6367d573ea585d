"""Refused requests: every kind of mistake, in both error shapes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    MODEL,
    Keys,
    OnSharedApi,
    RunningApi,
    chat_body,
    chat_job,
    connect,
    make_keys,
    one_api,
    submit,
)
from tests.support.keys import make_key, sqlite_in
from tests.support.redis_server import RedisServer

CHAT = "/v1/chat/completions"
SECRET = "the prompt nobody may log"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_for(
        redis_server,
        api={"port": 0},
        database=sqlite_in(tmp_path_factory.mktemp("refusals")),
        limits={"body_bytes": 100_000},
    )


#: A refused request must leave no job.
keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture(autouse=True)
def _registered(store: JobStore) -> None:
    """The model is there."""


def check_shape(response: httpx2.Response, status: int, code: str) -> None:
    """Check that an error is complete and in the shape of its route."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    path = response.request.url.path
    if path.startswith(("/v1/chat", "/v1/completions", "/v1/models")):
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert error["code"] == code.replace("-", "_")
        assert error["request_id"] == response.headers["x-request-id"]
    else:
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["type"] == f"urn:penstock:problem:{code}"
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["title"]
        assert problem["detail"]
        assert problem["instance"]
        assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/generate", CHAT, "/v1/completions"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed-body"),
        (b"{", 400, "malformed-body"),
        (b"[]", 400, "malformed-body"),
        (b'"text"', 400, "malformed-body"),
        (b"null", 400, "malformed-body"),
        (b'{"a": NaN}', 400, "malformed-body"),
        (b'{"a": "\xff\xfe"}', 400, "malformed-body"),
        (b'{"a": "\\ud800"}', 400, "malformed-body"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "malformed-body"),
        (b'{"a": "' + b"x" * 100_000 + b'"}', 413, "body-too-large"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx2.AsyncClient, path: str, body: bytes, status: int, code: str
) -> None:
    check_shape(await client.post(path, content=body, headers=JSON), status, code)


@pytest.mark.parametrize("path", ["/v1/jobs", CHAT])
async def test_a_chunked_body_is_counted(client: httpx2.AsyncClient, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 10_000

    response = await client.post(path, content=chunks(), headers=JSON)
    check_shape(response, 413, "body-too-large")
    assert "100000 bytes" in response.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream": "often"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"river": 1}}, "logit_bias.river"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "structured_outputs"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_chat_field_is_named(
    client: httpx2.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await client.post(CHAT, json=chat_body(**fields))
    check_shape(response, 400, "invalid-job")
    assert response.json()["error"]["param"] == param
    job = await client.post("/v1/jobs", json=chat_job(body=chat_body(**fields)))
    check_shape(job, 422, "invalid-job")
    assert job.json()["param"] == f"body.{param}"
    assert job.json()["errors"][0]["pointer"].startswith("/body/")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "x", "logprobs": "many"}, "logprobs"),
        ({"prompt": "x", "messages": []}, "messages"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_completion_field_is_named(
    client: httpx2.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    response = await client.post("/v1/completions", json={"model": MODEL, **fields})
    check_shape(response, 400, "invalid-job")
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"audio": {"voice": "x", "format": "mp3"}}, "audio"),
        (CHAT, {"moderation": {"model": "x"}}, "moderation"),
        (CHAT, {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        (CHAT, {"prompt_cache_options": {}}, "prompt_cache_options"),
        (CHAT, {"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        (CHAT, {"web_search_options": {}}, "web_search_options"),
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ("/v1/completions", {"suffix": "y"}, "suffix"),
        ("/v1/completions", {"best_of": 3}, "best_of"),
        ("/v1/completions", {"n": 2, "best_of": 1}, "best_of"),
    ],
)
async def test_what_openai_has_and_engines_here_have_not_is_refused_by_name(
    client: httpx2.AsyncClient, path: str, fields: dict[str, Any], param: str
) -> None:
    body = {"model": MODEL, "prompt": "x", **fields} if path != CHAT else chat_body(**fields)
    response = await client.post(path, json=body)
    check_shape(response, 400, "unsupported-parameter")
    assert response.json()["error"]["param"] == param
    job = await client.post("/v1/jobs", json={"url": path, "body": body})
    check_shape(job, 422, "unsupported-parameter")
    assert job.json()["param"] == f"body.{param}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", 5),
        ("max_tokens", 0),
        ("max_tokens", 2049),
        ("max_tokens", "5"),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("top_p", 1.1),
        ("top_p", -1),
        ("stop", "x"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/generate/stream"])
async def test_a_wrong_generate_field_is_named(
    client: httpx2.AsyncClient, path: str, field: str, value: object
) -> None:
    response = await client.post(path, json={"prompt": "hi", field: value})
    assert (response.status_code, response.json()["param"]) == (422, field)


async def test_a_schema_nested_beyond_storage_is_refused(client: httpx2.AsyncClient) -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    response = await client.post(CHAT, json=chat_body(chat_template_kwargs=deep))
    check_shape(response, 400, "invalid-job")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer pk_wrong", "Basic abc", "pk_wrong"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models"])
async def test_without_a_known_key_nothing_is_told(
    api: RunningApi, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with httpx2.AsyncClient(base_url=api.url) as stranger:
        response = await stranger.get(path, headers=headers)
    check_shape(response, 401, "unauthenticated" if path == "/v1/jobs" else "invalid-api-key")
    assert response.headers["www-authenticate"] == 'Bearer realm="penstock"'


async def test_a_key_made_later_works_at_once(client: httpx2.AsyncClient, api: RunningApi) -> None:
    del client
    key = make_key(api.settings, "late")
    async with connect(api, key) as late:
        assert (await late.get("/v1/jobs")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/jobs/x/y", 404, "not-found"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("GET", CHAT, 405, "method-not-allowed"),
    ],
)
async def test_unknown_paths_and_methods(
    client: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    check_shape(response, status, code)
    if status == 405:
        assert response.headers["allow"]


async def test_request_ids_are_taken_over_only_when_they_are_safe(
    client: httpx2.AsyncClient,
) -> None:
    for given, kept in (("abc-1.2:x_", True), ("a b", False), ("x" * 129, False), ("ü", False)):
        response = await client.get("/health", headers=[(b"X-Request-ID", given.encode())])
        assert (response.headers["x-request-id"] == given) is kept


async def test_prompts_never_reach_the_log(
    client: httpx2.AsyncClient,
    store: JobStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    messages = [{"role": "user", "content": SECRET}]
    await client.post("/v1/jobs", json=chat_job(body=chat_body(messages=messages)))
    await client.post(CHAT, json=chat_body(messages=messages, foo=SECRET))
    await client.post(CHAT, content=f'{{"{SECRET}'.encode(), headers=JSON)
    out, err = capfd.readouterr()
    assert SECRET not in out + err + caplog.text


async def test_an_unknown_exception_is_a_500_without_its_text(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("api.routes.jobs.job_object", broken)
    monkeypatch.setattr("api.routes.models._model_object", broken)
    await submit(client)
    response = await client.get("/v1/jobs")
    check_shape(response, 500, "internal")
    assert SECRET not in response.text
    check_shape(await client.get("/v1/models"), 500, "internal")


async def test_many_bad_requests_leave_the_server_well(
    client: httpx2.AsyncClient, keys: Keys
) -> None:
    del keys
    answers = await asyncio.gather(
        *(client.post("/v1/jobs", content=b"x" * 200_000, headers=JSON) for _ in range(20)),
        *(client.post("/v1/jobs", content=b"{", headers=JSON) for _ in range(20)),
    )
    assert sorted({answer.status_code for answer in answers}) == [400, 413]
    assert (await client.get("/ready")).status_code == 200


class TestCredentials(OnSharedApi):
    @pytest.mark.parametrize("path", ["/v1/models", "/v1/jobs"])
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("", "an api key is required"),
            ("Basic cGs6", "an api key is required"),
            ("Bearer pk_unknown", "api key is not valid"),
            ("Bearer sk-of-another-service", "api key is not valid"),
            ("Bearer a.b.c", "access token is not valid"),
        ],
        ids=["none", "basic", "unknown", "foreign", "token"],
    )
    async def test_a_wrong_credential_is_told_so_and_a_missing_one_is_asked_for(
        self, client: httpx2.AsyncClient, path: str, given: str, said: str
    ) -> None:
        answer = await client.get(path, headers={"Authorization": given})
        shown = answer.json()
        assert answer.status_code == 401
        assert said in (shown.get("detail") or shown["error"]["message"]).lower()
