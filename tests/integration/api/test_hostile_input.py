"""Wrong values in every field of every body: accepted, or refused with the field's name.

The fields come from the schemas, so those added later are tried as well.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from pydantic import BaseModel

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    chat_body,
    connect,
    make_keys,
    one_api,
)
from tests.support.redis_server import RedisServer
from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.embeddings import EmbeddingRequest
from wire.schemas.generate import GenerateRequest
from wire.schemas.jobs import JobRequest
from wire.schemas.responses import ResponseRequest

SECRET = "a-value-nobody-repeats"
ASYNC = {"Prefer": "respond-async", "Content-Type": "application/json"}

ROUTES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatRequest, chat_body()),
    "/v1/completions": (CompletionRequest, {"model": MODEL, "prompt": "hi"}),
    "/v1/responses": (ResponseRequest, {"model": MODEL, "input": "hi"}),
    "/v1/embeddings": (EmbeddingRequest, {"model": MODEL, "input": "hi"}),
    "/v1/generate": (GenerateRequest, {"prompt": "hi"}),
    "/v1/jobs": (JobRequest, {"url": "/v1/chat/completions", "body": chat_body()}),
}
FIELDS = [(url, name) for url, (schema, _) in ROUTES.items() for name in schema.model_fields]


def nested(depth: int) -> Any:
    value: Any = SECRET
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "null": None,
    "yes": True,
    "number": 1,
    "negative": -1,
    "fraction": 0.5,
    "huge": 2**63,
    "beyond": 10**40,
    "text": SECRET,
    "empty text": "",
    "zero byte": f"{SECRET}\0",
    "right to left": f"\u202e{SECRET}\u2066",
    "not a character": "\uffff\U0010ffff",
    "long": "x" * 60_000,
    "empty list": [],
    "list": [SECRET],
    "list of null": [None],
    "deep": nested(100),
    "empty object": {},
    "object": {"a_field": SECRET},
    "keys that mean something": {"__proto__": {}, "type": SECRET, "": 1},
}


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("hostile") / "penstock.db"
    return settings_for(
        redis_server,
        api={"port": 0},
        database={"url": f"sqlite+aiosqlite:///{file}"},
        limits={"body_bytes": 100_000},
    )


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture
async def http(api: RunningApi, keys: Keys, store: JobStore) -> AsyncIterator[httpx2.AsyncClient]:
    del store
    async with connect(api, keys.acme) as opened:
        yield opened


def refusal(answer: httpx2.Response) -> tuple[str, str]:
    """Return the field and the message of a refusal in either error shape."""
    body = answer.json()
    error = body.get("error", body)
    return str(error.get("param")), str(error.get("message", error.get("detail")))


@pytest.mark.parametrize(("url", "name"), FIELDS)
async def test_a_field_takes_a_value_or_is_named(
    http: httpx2.AsyncClient, url: str, name: str
) -> None:
    field = ROUTES[url][0].model_fields[name].alias or name
    for kind, value in VALUES.items():
        body = json.dumps({**ROUTES[url][1], field: value}).encode()
        answer = await http.post(url, content=body, headers=ASYNC)
        told = f"{kind}: {answer.status_code} {answer.text[:300]}"
        if answer.status_code in (200, 202) or "unsupported_model" in answer.text:
            continue
        assert answer.status_code in (400, 404, 422), told
        param, text = refusal(answer)
        own = param.split(".")[0].split("[")[0] == field
        # Some fields make others wrong: a stream's options without a stream, a tier of a job.
        assert own or field in ("url", "stream", "tools", "background", "body", "store"), told
        assert text, told
        if field not in ("model", "previous_response_id"):
            assert SECRET not in text, told


RAW: dict[str, tuple[bytes, int]] = {
    "lone surrogate": (b'{"model": "m", "prompt": "\\ud800"}', 400),
    "half a pair": (b'{"model": "m", "prompt": "\\udc00x"}', 400),
    "not utf-8": (b'{"model": "m", "prompt": "\xff"}', 400),
    "overlong utf-8": (b'{"model": "m", "prompt": "\xc0\xaf"}', 400),
    "utf-16": ('{"model": "m", "prompt": "x"}'.encode("utf-16"), 400),
    "byte order mark": (b'\xef\xbb\xbf{"model": "m", "prompt": "x"}', 400),
    "not a number": (b'{"model": "m", "prompt": "x", "temperature": NaN}', 400),
    "infinity": (b'{"model": "m", "prompt": "x", "temperature": -Infinity}', 400),
    "beyond floats": (b'{"model": "m", "prompt": "x", "temperature": 1e999}', 400),
    "many digits": (b'{"model": "m", "prompt": "x", "seed": ' + b"9" * 5_000 + b"}", 400),
    "deep": (b'{"model": "m", "prompt": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400),
    "trailing": (b'{"model": "m", "prompt": "x"}{"model": "m"}', 400),
    "comment": (b'{"model": "m", /* x */ "prompt": "x"}', 400),
    "too large": (b'{"model": "m", "prompt": "' + b"x" * 1_000_000 + b'"}', 413),
}


@pytest.mark.parametrize("kind", RAW)
async def test_a_hostile_body_is_refused(http: httpx2.AsyncClient, kind: str) -> None:
    content, status = RAW[kind]
    for url in ("/v1/completions", "/v1/responses", "/v1/embeddings"):
        answer = await http.post(url, content=content, headers=ASYNC)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"]


async def test_of_a_repeated_key_the_last_counts_for_the_check_and_for_the_engine(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    content = (
        b'{"model": "m", "prompt": "first", "temperature": 9, "prompt": "last", "temperature": 1}'
    )
    answer = await http.post("/v1/completions", content=content, headers=ASYNC)
    job = await store.get(answer.json()["id"], "acme")
    assert job.spec.body == {"model": "m", "prompt": "last", "temperature": 1}


@pytest.mark.parametrize(
    "text",
    ["\0", "a\0b", "\u202eabc\u202c", "\uffff", "🌊" * 1000, "\u2028\u2029\x85", "\r\n: x\r\n\r\n"],
)
async def test_hostile_text_comes_back_as_it_was_sent(
    http: httpx2.AsyncClient, store: JobStore, text: str
) -> None:
    body = {"model": MODEL, "input": text, "background": True, "metadata": {"a": text}}
    started = (await http.post("/v1/responses", json=body)).json()
    hand = Hand(store)
    while (job := await hand.take()).id != started["id"].replace("resp_", "job_"):
        await hand.finish(job)
    await hand.answer(job, text)
    done = (await http.get(f"/v1/responses/{started['id']}")).json()
    assert done["output"][0]["content"][0]["text"] == text
    assert done["metadata"] == {"a": text}
    items = (await http.get(f"/v1/responses/{started['id']}/input_items")).json()
    assert items["data"][0]["content"][0]["text"] == text
    stream = await http.get(f"/v1/responses/{started['id']}?stream=true")
    events = [
        orjson.loads(line[6:]) for line in stream.content.split(b"\n") if line[:6] == b"data: "
    ]
    assert events[-1]["response"]["output"] == done["output"]


@pytest.mark.parametrize(
    "name",
    ["%00", "resp_%00", "..%2f..%2fetc", "resp_" + "a" * 6_000, "%F0%9F%8C%8A", "resp_'--", "%ff"],
)
async def test_a_hostile_id_is_just_unknown(http: httpx2.AsyncClient, name: str) -> None:
    for method, path in (
        ("GET", "/v1/responses/{}"), ("DELETE", "/v1/responses/{}"), ("GET", "/v1/jobs/{}"),
        ("POST", "/v1/responses/{}/cancel"), ("GET", "/v1/responses/{}/input_items"),
        ("GET", "/v1/models/{}"),
    ):  # fmt: skip
        answer = await http.request(method, path.format(name))
        assert answer.status_code in (404, 405), (method, path, answer.text)


async def test_nothing_of_it_lost_or_broke_a_job(http: httpx2.AsyncClient, store: JobStore) -> None:
    accepted = await http.post(
        "/v1/jobs", json={"url": "/v1/responses", "body": {"model": MODEL, "input": "hi"}}
    )
    hand = Hand(store)
    while (job := await hand.take()).id != accepted.json()["id"]:
        await hand.finish(job)
    await hand.answer(job, "well")
    assert (await http.get(f"/v1/jobs/{job.id}")).json()["status"] == "completed"
