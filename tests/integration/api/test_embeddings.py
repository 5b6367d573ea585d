"""Embeddings: on their own route, as submitted jobs, after a second attempt."""

import asyncio
import base64
from array import array
from collections.abc import Sequence
from typing import Any

import httpx2
import openai
import orjson
import pytest

from billing.budgets.budgets import max_tokens
from core.errors import EngineError
from jobs.fairness import estimated_tokens
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob, Ending
from tests.integration.api.conftest import CONTEXT, MODEL, Hand, OnSharedApi, chat_body

EMBEDDER = "embedder"
URL = "/v1/embeddings"
WIDE = [0.5] * 383  # the rest of a small model's vector


def packed(*numbers: float) -> str:
    return base64.b64encode(array("f", numbers).tobytes()).decode()


@pytest.fixture
async def embedder(store: JobStore) -> Hand:
    model = ServedModel(EMBEDDER, CONTEXT, "by hand", 1_700_000_000, "embed")
    await ModelRegistry(store.redis, store.keys).register(model)
    return Hand(store, queue=EMBEDDER)


async def embed(hand: Hand, job: ClaimedJob, *vectors: tuple[int, Sequence[float]]) -> None:
    """Write some vectors, as a worker does."""
    for index, numbers in vectors:
        data = {"index": index, "token_ids": [], "text": "", "finish_reason": "stop"}
        await hand.write(job, ("delta", {**data, "delta": {"embedding": packed(*numbers)}}))


async def test_vectors_come_in_the_order_of_the_inputs(
    ai: openai.AsyncOpenAI, embedder: Hand
) -> None:
    async def work() -> ClaimedJob:
        job = await embedder.take()
        await embed(embedder, job, (1, [3.0, 4.5]), (0, [1.0, -2.5]))
        await embedder.finish(job)
        return job

    asked: Any = {"model": EMBEDDER, "input": ["a", "b"], "encoding_format": "float"}
    answer, job = await asyncio.gather(ai.embeddings.create(**asked), work())
    assert [one.embedding for one in answer.data] == [[1.0, -2.5], [3.0, 4.5]]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)
    assert job.spec.body == {"model": EMBEDDER, "input": ["a", "b"]}


async def test_as_many_inputs_as_openai_takes_come_back_in_one_answer(
    ai: openai.AsyncOpenAI, embedder: Hand
) -> None:
    async def work() -> None:
        job = await embedder.take()
        for start in range(0, 2048, 512):
            data = {"token_ids": [], "text": "", "finish_reason": "stop"}
            vectors = [
                ("delta", {**data, "index": index, "delta": {"embedding": packed(index, *WIDE)}})
                for index in range(start, start + 512)
            ]
            await embedder.write(job, *vectors)
        await embedder.finish(job)

    asked: Any = {"model": EMBEDDER, "input": [[1, 2]] * 2048, "encoding_format": "float"}
    answer, _ = await asyncio.gather(ai.embeddings.create(**asked), work())
    assert [one.index for one in answer.data] == list(range(2048))
    assert [one.embedding[0] for one in answer.data] == list(range(2048))


async def test_a_submitted_job_has_them_as_its_result_also_after_a_second_attempt(
    client: httpx2.AsyncClient, embedder: Hand, store: JobStore
) -> None:
    body = {"model": EMBEDDER, "input": [[1, 2], [3]]}
    job_id = (await client.post("/v1/jobs", json={"url": URL, "body": body})).json()["id"]
    first = await embedder.take()
    await embed(embedder, first, (0, [1.0]))
    await store.requeue(first.id, first.fence, EngineError("cut"), delay_seconds=0.0, counted=True)
    second = await embedder.take()
    await embed(embedder, second, (0, [1.0]), (1, [2.0]))
    await embedder.write(second, ending=Ending(Status.COMPLETED))
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert [one["embedding"] for one in job["result"]["data"]] == [[1.0], [2.0]]
    assert job["usage"]["output_tokens"] == 0
    assert (await client.get(f"/v1/jobs/{job_id}/result")).json() == job["result"]


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (URL, {"model": MODEL, "input": "x"}),
        ("/v1/completions", {"model": EMBEDDER, "prompt": "x"}),
        ("/v1/chat/completions", {**chat_body(), "model": EMBEDDER}),
        ("/v1/responses", {"model": EMBEDDER, "input": "x"}),
    ],
)  # fmt: skip
async def test_a_model_does_what_it_is_for(
    client: httpx2.AsyncClient, embedder: Hand, url: str, body: dict[str, Any]
) -> None:
    del embedder
    refused = await client.post(url, json=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_model", "model")
    job = await client.post("/v1/jobs", json={"url": url, "body": body})
    assert (job.status_code, job.json()["code"]) == (422, "unsupported-model")


def test_what_an_embedding_may_cost_and_its_share_know_no_output() -> None:
    body = {"model": EMBEDDER, "input": ["a" * 400] * 30}
    size = len(orjson.dumps(body))
    bound = max_tokens(body, size, 512)
    assert (bound.input, bound.output) == (size, 0)
    assert estimated_tokens(body, size) == size // 4


async def test_models_that_generate_are_registered_as_they_always_were(
    embedder: Hand, store: JobStore
) -> None:
    del embedder
    kept = await store.redis.hgetall(store.keys.models)
    assert "task" not in orjson.loads(kept[MODEL.encode()])
    models = await ModelRegistry(store.redis, store.keys).list_models()
    assert {model.name: model.task for model in models} == {MODEL: "generate", EMBEDDER: "embed"}


class TestOnSharedApi(OnSharedApi):
    @pytest.mark.parametrize(
        "given",
        ["", [], [""], ["a", []], ["a", None], [[1, "a"]], [-1], [1.5], {"a": 1}, ["a", ""] * 2000],
    )
    async def test_inputs_that_cannot_be_embedded_are_refused(
        self, client: httpx2.AsyncClient, embedder: Hand, given: Any
    ) -> None:
        del embedder
        refused = await client.post(URL, json={"model": EMBEDDER, "input": given})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")

    async def test_too_many_inputs_are_told_how_many_may_be_sent(
        self, client: httpx2.AsyncClient, embedder: Hand
    ) -> None:
        del embedder
        refused = await client.post(URL, json={"model": EMBEDDER, "input": ["a"] * 2049})
        assert refused.status_code == 400
        message = refused.json()["error"]["message"]
        assert message == "input: expected at most 2048 inputs, got 2049"
