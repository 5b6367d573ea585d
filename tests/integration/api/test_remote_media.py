"""Media that a request names by URL are fetched once, before its job is accepted."""

import base64
from typing import Any

import httpx2
import pytest

from core.errors import EngineError
from core.settings.tree import Settings
from jobs.model_registry import TEXT_ONLY, ModelRegistry, ServedModel
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import CONTEXT, Hand, until_status
from tests.integration.api.test_media_and_complexity import (
    ASYNC,
    CHAT,
    RESPONSES,
    asked,
    check_openai_error,
    image,
    request_line,
    response_input,
)
from tests.support.batches import create, feeding
from tests.support.listening import ForbiddenServer
from tests.support.media_server import PIXEL, serving_media
from tests.support.waiting import eventually

SEER = "seer"
FETCHED = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
FIELD = "messages[2].content[1]"

pytestmark = pytest.mark.settings(
    media_fetch__enabled=True,
    media_fetch__require_https=False,
    media_fetch__ports="",
    media_fetch__allow_networks="127.0.0.1/32",
    batches__look_seconds=0.05,
    batches__flush_seconds=0.1,
)


@pytest.fixture
async def store(store: JobStore) -> JobStore:
    """The store, with a model that takes images and audio."""
    taken = TEXT_ONLY | {"image", "audio"}
    model = ServedModel(SEER, CONTEXT, "by hand", 1_700_000_000, "generate", taken)
    await ModelRegistry(store.redis, store.keys).register(model)
    return store


@pytest.fixture
def hand(store: JobStore) -> Hand:
    return Hand(store, queue=SEER)


def parts_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the media parts of a stored chat."""
    contents = [message["content"] for message in body["messages"]]
    lists = [content for content in contents if isinstance(content, list)]
    return [part for content in lists for part in content if part["type"] != "text"]


async def test_an_image_is_fetched_once_for_all_attempts_and_retries(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with serving_media() as server:
        part = {"type": "image_url", "image_url": {"url": server.url, "detail": "low"}}
        headers = {**ASYNC, "Idempotency-Key": "one"}
        body = asked(part, model=SEER)
        answer = await client.post(CHAT, json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        server.body = b"another picture by now"
        again = await client.post(CHAT, json=body, headers=headers)
        assert (again.status_code, again.json()["id"]) == (202, job_id)
        other = await client.post(CHAT, json=asked(image(FETCHED), model=SEER), headers=headers)
        assert other.json()["error"]["code"] == "idempotency_mismatch"

        job = await hand.take()
        stored = {"type": "image_url", "image_url": {"url": FETCHED, "detail": "low"}}
        assert parts_of(job.spec.body) == [stored]
        await hand.finish(job, Status.FAILED, EngineError("it broke"))
        await until_status(client, job_id, Status.FAILED)
        retried = await client.post(f"/v1/jobs/{job_id}/retry")
        assert retried.status_code == 202, retried.text
        assert parts_of((await hand.take()).spec.body) == [stored]
        assert server.connections == 1


async def test_every_api_names_the_field_of_what_was_not_fetched(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with serving_media() as good, serving_media(status=404) as bad:
        part = {"type": "audio_url", "audio_url": {"url": good.url}}
        wrong = await client.post(CHAT, json=asked(part, model=SEER))
        assert "expected the URL of audio data" in wrong.json()["error"]["message"]

        answer = await client.post(CHAT, json=asked(image(bad.url), model=SEER))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (
            *(400, "media_not_fetched"),
            FIELD,
        )
        assert error["message"] == f"{FIELD}: the URL could not be fetched"
        body = response_input(bad.url, SEER)
        answer = await client.post(RESPONSES, json=body)
        assert answer.json()["error"]["param"] == "input[0].content[0]"
        answer = await client.post("/v1/jobs", json={"url": RESPONSES, "body": body})
        assert (answer.status_code, answer.json()["code"]) == (422, "media-not-fetched")
        source = {"type": "image", "source": {"type": "url", "url": bad.url}}
        message = {"role": "user", "content": [source]}
        answer = await client.post(
            "/v1/messages", json={"model": SEER, "max_tokens": 5, "messages": [message]}
        )
        assert answer.status_code == 400
        assert "the URL could not be fetched" in answer.json()["error"]["message"]
        assert bad.connections == 4

        body = response_input(good.url, SEER)
        answer = await client.post(RESPONSES, json={**body, "background": True})
        assert answer.status_code == 200, answer.text
        (stored,) = parts_of((await hand.take()).spec.body)
        assert stored == {"type": "image_url", "image_url": {"url": FETCHED}}


async def test_what_may_not_be_fetched_is_refused_without_a_connection(
    client: httpx2.AsyncClient, store: JobStore
) -> None:
    with ForbiddenServer() as server:
        inside = server.url.replace("127.0.0.1", "127.0.0.2")
        for url in (inside, "file:///etc/passwd", "ftp://x.test/y", "https://a:b@x.test/"):
            answer = await client.post(CHAT, json=asked(image(url), model=SEER))
            check_openai_error(answer, FIELD, f"{FIELD}: expected ")
        answer = await client.post(CHAT, json=asked(image(server.url)))
        check_openai_error(answer, FIELD, "does not take image input")
        question = asked(image(server.url), model=SEER)
        answer = await client.post("/tokenize", json=question)
        assert "URLs are not fetched" in answer.json()["error"]["message"]
        assert server.untouched
    assert await store.redis.zcard(store.keys.queued(SEER)) == 0


@pytest.mark.settings(media__part_bytes=60, limits__prompt_characters=150)
async def test_what_was_fetched_counts_as_part_of_the_prompt(client: httpx2.AsyncClient) -> None:
    async with serving_media(body=b"x" * 24) as server:
        urls = [server.url, server.url.replace("a.png", "b.png")]
        answer = await client.post(CHAT, json=asked(image(urls[0]), model=SEER), headers=ASYNC)
        assert answer.status_code == 202, answer.text
        many = await client.post(CHAT, json=asked(*map(image, urls), model=SEER))
        check_openai_error(many, "messages", "expected at most 150 characters")
        server.body = b"x" * 30
        large = await client.post(CHAT, json=asked(image(urls[0]), model=SEER))
        assert "expected at most 27 bytes" in large.json()["error"]["message"]


async def test_lines_of_a_batch_are_fetched_before_their_jobs_are_accepted(
    client: httpx2.AsyncClient, settings: Settings, hand: Hand
) -> None:
    async with serving_media() as server:
        line = request_line(CHAT, asked(image(server.url), model=SEER))
        await create(client, line, endpoint=CHAT)
        async with feeding(settings):
            assert parts_of((await hand.take()).spec.body) == [image(FETCHED)]
        assert server.connections == 1


async def test_fetches_are_counted_by_outcome(client: httpx2.AsyncClient) -> None:
    async with serving_media(status=404) as server:
        await client.post(CHAT, json=asked(image(server.url), model=SEER))

    async def counted() -> bool:
        text = (await client.get("/metrics")).text
        return 'penstock_media_fetches_total{outcome="status"}' in text

    await eventually(counted)
