"""`/tokenize`, `/detokenize`, `/v1/messages/count_tokens`: a worker's own service answers them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from accounts.caller import Limits
from core.errors import (
    ContextLengthExceeded,
    EngineDead,
    EngineError,
    InvalidJob,
    PipelineError,
)
from core.ids import new_id
from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.tokenising.messages import TokeniserAnswer, TokeniserRequest, encode_answer
from jobs.tokenising.tokeniser_queue import TokeniserQueue
from tests.conftest import settings_for
from tests.integration.api.conftest import (
    CONTEXT,
    MODEL,
    Keys,
    RunningApi,
    chat_job,
    connect,
    make_keys,
    one_api,
)
from tests.support.keys import make_key, sqlite_in
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from workers.background_tasks import BackgroundTasks
from workers.engines.simulated import SimulatedEngine
from workers.engines.simulated_text import WORDS, prompt_tokens
from workers.engines.tokeniser_service import TokeniserService

TOKENIZE, DETOKENIZE, COUNT = "/tokenize", "/detokenize", "/v1/messages/count_tokens"
TEXT = "".join(WORDS[40:44]).strip()
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is a mill?"}]},
]
WAIT_SECONDS = 0.5
RESPONSES = "/v1/responses/input_tokens"


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_for(
        redis_server,
        api={"port": 0},
        database=sqlite_in(tmp_path_factory.mktemp("tokenize")),
        engine={"kind": "simulated", "served_name": MODEL},
        tokeniser={"wait_seconds": WAIT_SECONDS, "open_per_account": 2, "max_waiting": 3},
    )


keys = pytest.fixture(scope="module")(make_keys)
api = pytest.fixture(scope="module")(one_api)


@pytest.fixture
async def http(api: RunningApi, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(api, keys.acme) as opened:
        yield opened


class Unused:
    """The simulated engine's sink; no job runs in it."""

    def step(self, outputs: Any) -> None:
        raise AssertionError(outputs)

    def progress(self) -> None:
        """Only a worker watches the progress."""

    def dead(self, error: BaseException) -> None:
        raise AssertionError(error)


class Troubled(SimulatedEngine):
    """An engine whose tokeniser fails, or takes for ever, if the text says so."""

    async def tokenise(self, request: TokeniserRequest) -> TokeniserAnswer:
        text = request.body.get("prompt")
        if text == "explode":
            raise RuntimeError(text)
        if text == "no Unicode":
            return TokeniserAnswer(1, [1], ["\ud800"])
        if text == "wait":
            await asyncio.Event().wait()
        return await super().tokenise(request)


@pytest.fixture
async def worker(settings: Settings, store: JobStore) -> AsyncIterator[TokeniserService]:
    """The part of a worker that answers, on the simulated engine."""
    engine = Troubled(settings.engine)
    await engine.start(Unused())
    failures: list[BaseException] = []
    tasks = BackgroundTasks(failures.append)
    service = TokeniserService(store, engine, settings)
    service.start(tasks.spawn)
    await until_present(store)
    yield service
    await tasks.cancel()
    await engine.close()
    await forget_worker(store)
    assert failures == []


async def forget_worker(store: JobStore) -> None:
    await store.redis.delete(store.keys.tokenisers(MODEL), store.keys.tokenise(MODEL))


async def until_present(store: JobStore) -> None:
    async def present() -> bool:
        return bool(await store.redis.exists(store.keys.tokenisers(MODEL)))

    await eventually(present)


@pytest.fixture
async def silent_worker(settings: Settings, store: JobStore) -> AsyncIterator[TokeniserQueue]:
    """A worker that said that it is there, and then takes nothing."""
    queue = TokeniserQueue(store, MODEL, settings.redis.timeout_seconds / 2)
    await queue.announce()
    yield queue
    await forget_worker(store)


async def reply(
    worker: TokeniserQueue, request: TokeniserRequest, answer: TokeniserAnswer | PipelineError
) -> None:
    await worker.answer(request.reply_to, encode_answer(request.id, answer))


async def waiting(store: JobStore) -> int:
    return int(await store.redis.llen(store.keys.tokenise(MODEL)))


async def until_waiting(store: JobStore, count: int) -> None:
    async def arrived() -> bool:
        return await waiting(store) == count

    await eventually(arrived)


@asynccontextmanager
async def client_of(
    api: RunningApi, account: str, **fields: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    key = await asyncio.to_thread(make_key, api.settings, account, **fields)
    async with connect(api, key) as opened:
        yield opened


async def asked(http: httpx2.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """Return the answer to a request that is served."""
    answer = await http.post(path, json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


# --- answers --------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
async def test_a_text_has_its_tokens_and_tokens_their_text(http: httpx2.AsyncClient) -> None:
    found = await asked(http, TOKENIZE, prompt=TEXT)
    assert found == {
        "count": 4,
        "max_model_len": CONTEXT,
        "tokens": [40, 41, 42, 43],
        "token_strs": None,
    }
    shown = await asked(http, TOKENIZE, prompt=TEXT, return_token_strs=True)
    assert shown["token_strs"] == TEXT.split()
    assert (await asked(http, DETOKENIZE, tokens=found["tokens"]))["prompt"].strip() == TEXT


@pytest.mark.usefixtures("worker")
async def test_a_chat_has_as_many_tokens_as_its_job(http: httpx2.AsyncClient) -> None:
    expected = prompt_tokens({"messages": CHAT})
    found = await asked(http, TOKENIZE, messages=CHAT, add_generation_prompt=True)
    assert (found["count"], len(found["tokens"])) == (expected, expected)
    asked_alike = {"system": CHAT[0]["content"], "messages": CHAT[1:]}
    assert await asked(http, COUNT, **asked_alike) == {"input_tokens": expected}
    item = {"role": "user", "content": "What is a mill?"}
    assert await asked(http, RESPONSES, instructions="Be brief.", input=[item]) == {
        "object": "response.input_tokens",
        "input_tokens": expected,
    }


@pytest.mark.usefixtures("worker")
async def test_nothing_of_it_is_a_job_or_costs_anything(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    before = await store.redis.xlen(store.keys.outbox), (await http.get("/v1/jobs")).json()["data"]
    await asked(http, TOKENIZE, prompt=TEXT)
    await asked(http, COUNT, messages=CHAT[1:])
    after = await store.redis.xlen(store.keys.outbox), (await http.get("/v1/jobs")).json()["data"]
    assert after == before
    assert [key async for key in store.redis.scan_iter(f"{store.keys.events('*')}:answers")] == []


@pytest.mark.usefixtures("worker")
async def test_the_model_may_be_left_out_if_only_one_can_be_meant(
    api: RunningApi, http: httpx2.AsyncClient, store: JobStore
) -> None:
    other = ServedModel("another", CONTEXT, "by hand", 1_700_000_000)
    await ModelRegistry(store.redis, store.keys).register(other)

    async def refused() -> bool:
        answer = await http.post(TOKENIZE, json={"prompt": TEXT})
        return answer.status_code == 400 and answer.json()["error"]["param"] == "model"

    await eventually(refused)
    async with client_of(api, "scoped", models=[MODEL]) as scoped:
        assert (await scoped.post(TOKENIZE, json={"prompt": TEXT})).json()["count"] == 4
        answer = await scoped.post(TOKENIZE, json={"prompt": TEXT, "model": "another"})
        assert answer.status_code == 403
    await store.redis.hdel(store.keys.models, "another")


@pytest.mark.usefixtures("worker")
async def test_a_worker_answers_several_accounts_at_once(api: RunningApi) -> None:
    async with client_of(api, "first") as first, client_of(api, "second") as second:
        both = await asyncio.gather(
            *(
                asked(client, TOKENIZE, prompt=f"{TEXT} {n}")
                for client in (first, second)
                for n in (1, 2)
            )
        )
    assert [found["count"] for found in both] == [5] * 4


# --- refusals -------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (TOKENIZE, {}, 400, "prompt"),
        (TOKENIZE, {"prompt": "a", "messages": CHAT}, 400, "prompt"),
        (TOKENIZE, {"prompt": ["a", "b"]}, 400, "prompt"),
        (TOKENIZE, {"prompt": "a", "tools": []}, 400, "tools"),
        (TOKENIZE, {"messages": []}, 400, "messages"),
        (TOKENIZE, {"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        (TOKENIZE, {"messages": CHAT, "chat_template": "{{ 1 }}"}, 400, "chat_template"),
        (
            TOKENIZE,
            {"messages": CHAT, "continue_final_message": True, "add_generation_prompt": True},
            400,
            "continue_final_message",
        ),
        (TOKENIZE, {"prompt": "a", "max_tokens": 5}, 400, "max_tokens"),
        (TOKENIZE, {"prompt": "a", "model": "gone"}, 404, "model"),
        (TOKENIZE, {"prompt": "x" * 1_000_001}, 400, "prompt"),
        (DETOKENIZE, {}, 400, "tokens"),
        (DETOKENIZE, {"tokens": [-1]}, 400, "tokens[0]"),
        (DETOKENIZE, {"tokens": [len(WORDS)]}, 400, "tokens"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_wrong_request_names_its_field(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    answer = await http.post(path, json={"model": MODEL, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


@pytest.mark.usefixtures("worker")
async def test_a_wrong_count_has_anthropics_error(http: httpx2.AsyncClient) -> None:
    answer = await http.post(COUNT, json={"model": MODEL, "messages": CHAT[1:], "max_tokens": 5})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == "max_tokens"


async def test_an_engines_refusal_names_the_clients_field(
    http: httpx2.AsyncClient, silent_worker: TokeniserQueue
) -> None:
    asking = asyncio.create_task(http.post(RESPONSES, json={"model": MODEL, "input": TEXT}))
    request = await silent_worker.take()
    assert request is not None
    await reply(silent_worker, request, InvalidJob("no", param="messages"))
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("it failed"), 500, "engine_error"),
        (EngineDead("the engine died"), 503, "tokeniser_unavailable"),
        (ContextLengthExceeded("too long", param="prompt"), 400, "context_length_exceeded"),
    ],
)
async def test_a_workers_error_is_the_clients_answer(
    http: httpx2.AsyncClient,
    silent_worker: TokeniserQueue,
    error: PipelineError,
    status: int,
    code: str,
) -> None:
    asking = asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT}))
    request = await silent_worker.take()
    assert request is not None
    await reply(silent_worker, request, error)
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_key_needs_the_scope(api: RunningApi) -> None:
    async with client_of(api, "scoped", routes=["chat"]) as scoped:
        for path in (TOKENIZE, DETOKENIZE, COUNT, RESPONSES):
            assert (await scoped.post(path, json={"model": MODEL})).status_code == 403
        del scoped.headers["Authorization"]
        assert (await scoped.post(TOKENIZE, json={"model": MODEL})).status_code == 401


# --- no answer ------------------------------------------------------------------------


async def test_without_a_worker_the_answer_is_an_immediate_503(http: httpx2.AsyncClient) -> None:
    answer = await http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "tokeniser_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "runs now" in error["message"]


@pytest.mark.usefixtures("silent_worker")
async def test_a_request_that_is_not_answered_is_a_503_and_leaves_the_queue(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    answer = await http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "tokeniser_unavailable")
    assert f"within {WAIT_SECONDS:g} s" in error["message"]
    assert await waiting(store) == 0


@pytest.mark.usefixtures("silent_worker")
async def test_a_client_that_leaves_takes_its_request_back(
    http: httpx2.AsyncClient, store: JobStore
) -> None:
    asking = asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT}))
    await until_waiting(store, 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until_waiting(store, 0)


async def test_a_request_that_a_worker_took_and_lost_can_be_repeated(
    http: httpx2.AsyncClient, silent_worker: TokeniserQueue
) -> None:
    asking = asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT}))
    assert (await silent_worker.take()) is not None
    assert (await asking).status_code == 503
    again = asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT}))
    request = await silent_worker.take()
    assert request is not None
    await reply(silent_worker, request, TokeniserAnswer(1, [7]))
    assert (await again).json()["tokens"] == [7]


async def test_an_answer_that_comes_too_late_disturbs_no_other_request(
    http: httpx2.AsyncClient, silent_worker: TokeniserQueue
) -> None:
    asking = asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT}))
    request = await silent_worker.take()
    assert request is not None
    assert (await asking).status_code == 503
    again = asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT}))
    second = await silent_worker.take()
    assert second is not None
    await reply(silent_worker, request, TokeniserAnswer(1, [7]))
    await reply(silent_worker, second, TokeniserAnswer(1, [8]))
    assert (await again).json()["tokens"] == [8]


# --- limits ---------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
async def test_a_request_counts_for_the_rate_that_jobs_have(api: RunningApi) -> None:
    limits = Limits(requests_per_minute=2, tokens_per_minute=1_000)
    async with client_of(api, "limited", limits=limits) as http:
        await asked(http, TOKENIZE, prompt=TEXT)
        await asked(http, COUNT, messages=CHAT[1:])
        refused = await http.post(DETOKENIZE, json={"model": MODEL, "tokens": [1]})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
        assert 0 < int(refused.headers["Retry-After"]) <= 31
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "1000", "tokens are free"
        job = await http.post("/v1/jobs", json=chat_job())
        assert (job.status_code, job.json()["code"]) == (429, "rate-limited")


@pytest.mark.usefixtures("silent_worker")
async def test_one_account_cannot_hold_the_tokeniser(
    api: RunningApi, http: httpx2.AsyncClient, store: JobStore
) -> None:
    body = {"model": MODEL, "prompt": TEXT}
    mine = [asyncio.create_task(http.post(TOKENIZE, json=body)) for _ in range(2)]
    await until_waiting(store, 2)
    refused = await http.post(TOKENIZE, json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    async with client_of(api, "third") as other:
        theirs = [asyncio.create_task(other.post(TOKENIZE, json=body)) for _ in range(1)]
        await until_waiting(store, 3)
        full = await other.post(TOKENIZE, json=body)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert "model" in full.json()["error"]["message"]
        answers = await asyncio.gather(*mine, *theirs)
    assert {answer.status_code for answer in answers} == {503}
    refused = await http.post(TOKENIZE, json=body)
    assert refused.status_code == 503, "an ended request holds no place"


@pytest.mark.usefixtures("worker")
async def test_requests_that_take_long_do_not_stop_those_of_another_account(
    api: RunningApi, http: httpx2.AsyncClient
) -> None:
    slow = [
        asyncio.create_task(http.post(TOKENIZE, json={"model": MODEL, "prompt": "wait"}))
        for _ in range(2)
    ]
    async with client_of(api, "second") as other:
        assert (await asked(other, TOKENIZE, prompt=TEXT))["count"] == 4
    assert {answer.status_code for answer in await asyncio.gather(*slow)} == {503}


# --- the worker -----------------------------------------------------------------------


async def test_a_message_that_is_no_request_does_not_stop_a_worker(
    http: httpx2.AsyncClient, store: JobStore, worker: TokeniserService
) -> None:
    del worker
    await store.redis.lpush(store.keys.tokenise(MODEL), b"nonsense", b"{}")
    assert (await asked(http, TOKENIZE, prompt=TEXT))["count"] == 4


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("text", ["explode", "no Unicode"])
async def test_an_unexpected_failure_is_the_answer_to_its_own_request(
    http: httpx2.AsyncClient, text: str
) -> None:
    answer = await http.post(TOKENIZE, json={"model": MODEL, "prompt": text})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_error")
    assert text not in answer.json()["error"]["message"]
    assert (await asked(http, TOKENIZE, prompt=TEXT))["count"] == 4


async def test_a_newer_kind_of_request_is_refused_by_name(
    store: JobStore, worker: TokeniserService
) -> None:
    del worker
    me = new_id("api")
    newer: Any = "embed"
    request = TokeniserRequest(new_id("tok"), me, "acme", newer, {"prompt": "a"})
    await store.redis.lpush(store.keys.tokenise(MODEL), request.encode())
    found: Any = await store.redis.blpop([store.keys.answers(me)], timeout=5)
    assert b"cannot embed" in found[1]


async def test_a_worker_that_stops_takes_no_more_requests(
    http: httpx2.AsyncClient, store: JobStore, worker: TokeniserService
) -> None:
    worker.stop()
    await store.redis.delete(store.keys.tokenisers(MODEL))

    async def refused() -> bool:
        answer = await http.post(TOKENIZE, json={"model": MODEL, "prompt": TEXT})
        return answer.status_code == 503

    await eventually(refused)
