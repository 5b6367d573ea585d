"""Media and requests that are too complex are refused before a job is accepted, on every route."""

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest

from core.errors import EngineError
from core.settings.tree import Settings
from jobs.model_registry import TEXT_ONLY, ModelRegistry, ServedModel
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    CONTEXT,
    MODEL,
    Hand,
    OnSharedApi,
    chat_body,
    chat_job,
    submit,
    until_status,
)
from tests.support.batches import create, feeding, until
from tests.support.listening import ForbiddenServer
from tests.support.waiting import eventually

CHAT, RESPONSES, JOBS = "/v1/chat/completions", "/v1/responses", "/v1/jobs"
SEER = "seer"
PNG = "data:image/png;base64,iVBORw0KGgo="
SELF_REFERENCE = {"$defs": {"t": {"$ref": "#/$defs/t"}}, "$ref": "#/$defs/t"}
ASYNC = {"Prefer": "respond-async"}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def asked(*parts: dict[str, Any], model: str = MODEL) -> dict[str, Any]:
    """A chat whose third message has a text and these parts."""
    content = [{"type": "text", "text": "What is this?"}, *parts]
    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    return {"model": model, "messages": [*earlier, {"role": "user", "content": content}]}


def response_input(url: str, model: str = MODEL) -> dict[str, Any]:
    part = {"type": "input_image", "image_url": url}
    return {"model": model, "input": [{"role": "user", "content": [part]}]}


def with_schema(schema: Any) -> dict[str, Any]:
    named = {"name": "n", "schema": schema}
    return chat_body(response_format={"type": "json_schema", "json_schema": named})


async def check_nothing_accepted(store: JobStore) -> None:
    for model in (MODEL, SEER):
        assert await store.redis.zcard(store.keys.queued(model)) == 0


async def make_known(client: httpx2.AsyncClient, store: JobStore, name: str) -> None:
    """Register a model that takes images; the API reads the models once a second."""
    taken = TEXT_ONLY | {"image"}
    model = ServedModel(name, CONTEXT, "by hand", 1_700_000_000, "generate", taken)
    await ModelRegistry(store.redis, store.keys).register(model)

    async def known() -> bool:
        return (await client.get(f"/v1/models/{name}")).status_code == 200

    await eventually(known)


@pytest.fixture
async def seer(client: httpx2.AsyncClient, store: JobStore) -> str:
    """A model that takes images."""
    await make_known(client, store, SEER)
    return SEER


def check_openai_error(response: httpx2.Response, param: str, text: str) -> None:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_job")
    assert error["param"] == param
    assert text in error["message"]


class TestMedia(OnSharedApi):
    @pytest.mark.parametrize("kind", ["image_url", "video_url"])
    async def test_a_text_model_refuses_media_by_name_and_fetches_nothing(
        self, client: httpx2.AsyncClient, store: JobStore, kind: str
    ) -> None:
        with ForbiddenServer() as server:
            part = {"type": kind, kind: {"url": server.url}}
            answer = await client.post(CHAT, json=asked(part))
            text = f"does not take {kind.partition('_')[0]} input; it takes text"
            check_openai_error(answer, "messages[2].content[1]", text)
            job = await client.post(JOBS, json=chat_job(body=asked(part)))
            assert (job.status_code, job.json()["code"]) == (422, "invalid-job")
            assert job.json()["param"] == "messages[2].content[1]"
            check_openai_error(
                await client.post(RESPONSES, json=response_input(server.url)),
                "input[0].content[0]",
                "does not take image input",
            )
            job = await client.post(
                JOBS, json={"url": RESPONSES, "body": response_input(server.url)}
            )
            assert job.json()["param"] == "input[0].content[0]"
            assert server.untouched
        await check_nothing_accepted(store)

    async def test_a_text_model_refuses_audio_and_data_urls_too(
        self, client: httpx2.AsyncClient, store: JobStore
    ) -> None:
        audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
        answer = await client.post(CHAT, json=asked(audio))
        check_openai_error(answer, "messages[2].content[1]", "does not take audio input")
        answer = await client.post(CHAT, json=asked(image(PNG)))
        check_openai_error(answer, "messages[2].content[1]", "does not take image input")
        await check_nothing_accepted(store)

    @pytest.mark.parametrize("kind", ["audio_url", "file", "input_file"])
    async def test_parts_of_no_known_type_are_refused(
        self, client: httpx2.AsyncClient, kind: str
    ) -> None:
        with ForbiddenServer() as server:
            answer = await client.post(CHAT, json=asked({"type": kind, kind: {"url": server.url}}))
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "messages[2].content[1]"
            item = {"role": "user", "content": [{"type": kind, "file_url": server.url}]}
            answer = await client.post(RESPONSES, json={"model": MODEL, "input": [item]})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "input[0].content[0]"
            answer = await client.post(
                "/v1/embeddings", json={"model": MODEL, "input": [image(server.url)]}
            )
            assert answer.status_code == 400
            assert server.untouched

    async def test_a_model_that_takes_images_takes_data_and_no_url(
        self, client: httpx2.AsyncClient, store: JobStore, seer: str
    ) -> None:
        accepted = await client.post(CHAT, json=asked(image(PNG), model=seer), headers=ASYNC)
        assert accepted.status_code == 202, accepted.text
        await client.post(f"/v1/jobs/{accepted.json()['id']}/cancel")
        with ForbiddenServer() as server:
            for url in (server.url, "file:///etc/passwd", "ftp://x/y", "data:image/png,raw"):
                answer = await client.post(CHAT, json=asked(image(url), model=seer))
                check_openai_error(answer, "messages[2].content[1]", "URLs are not fetched")
            assert server.untouched
        for part, text in (
            (image("data:image/png;base64,§§"), "not valid base64"),
            (image("data:image/png;base64," + "A" * 700_000), "at most 700000 bytes of data"),
            ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA=="}}, "video"),
        ):
            check_openai_error(
                await client.post(CHAT, json=asked(part, model=seer)),
                "messages[2].content[1]",
                text,
            )
        many = await client.post(CHAT, json=asked(*[image(PNG)] * 17, model=seer))
        check_openai_error(many, "messages[2].content[17]", "at most 16")
        await check_nothing_accepted(store)

    async def test_a_conversation_with_an_image_cannot_go_on_with_a_text_model(
        self, client: httpx2.AsyncClient, store: JobStore, seer: str
    ) -> None:
        body = {**response_input(PNG, seer), "background": True}
        first = (await client.post(RESPONSES, json=body)).json()
        hand = Hand(store, queue=seer)
        job = await hand.take()
        await hand.answer(job, "A cat")
        await until_status(client, job.id, Status.COMPLETED)
        answer = await client.post(
            RESPONSES,
            json={"model": MODEL, "input": "And now?", "previous_response_id": first["id"]},
        )
        check_openai_error(answer, "previous_response_id", "does not take image input")

    async def test_a_job_is_repeated_only_by_a_model_that_still_takes_its_media(
        self, client: httpx2.AsyncClient, store: JobStore
    ) -> None:
        name = "losing-its-sight"
        await make_known(client, store, name)
        job_id = await submit(client, body=asked(image(PNG), model=name))
        await Hand(store, queue=name).fail_after("A", EngineError("it broke"))
        await until_status(client, job_id, Status.FAILED)
        text_only = ServedModel(name, CONTEXT, "by hand", 1_700_000_000)
        await ModelRegistry(store.redis, store.keys).register(text_only)

        async def refused() -> bool:
            return (await client.post(f"/v1/jobs/{job_id}/retry")).status_code == 422

        await eventually(refused)


class TestComplexity(OnSharedApi):
    async def test_a_schema_that_refers_to_itself_is_refused_on_every_route(
        self, client: httpx2.AsyncClient, store: JobStore
    ) -> None:
        field = "response_format.json_schema.schema"
        answer = await client.post(CHAT, json=with_schema(SELF_REFERENCE))
        check_openai_error(answer, field, "refers to itself without end")
        answer = await client.post(JOBS, json=chat_job(body=with_schema(SELF_REFERENCE)))
        assert (answer.status_code, answer.json()["param"]) == (422, field)
        form = {"type": "json_schema", "name": "n", "schema": SELF_REFERENCE}
        body = {"model": MODEL, "input": "hi", "text": {"format": form}}
        answer = await client.post(RESPONSES, json=body)
        check_openai_error(answer, "text.format.schema", "refers to itself without end")
        body = {"model": MODEL, "prompt": "hi", "structured_outputs": {"json": SELF_REFERENCE}}
        answer = await client.post("/v1/completions", json=body)
        check_openai_error(answer, "structured_outputs.json", "refers to itself without end")
        await check_nothing_accepted(store)

    async def test_requests_that_stalled_or_killed_workers_are_refused(
        self, client: httpx2.AsyncClient, store: JobStore
    ) -> None:
        numbers = {
            f"p{i}": {"type": "number", "minimum": i, "maximum": 10**12 + i} for i in range(1500)
        }
        parens = {"type": "string", "pattern": "(" * 50_000 + "a" + ")" * 50_000}
        ambiguous = {"grammar": 'root ::= root root | "a" | "b"'}
        for body in (
            with_schema({"type": "object", "properties": numbers}),
            with_schema({"type": "string", "enum": [f"v{i}" for i in range(100_000)]}),
            with_schema(parens),
            chat_body(structured_outputs=ambiguous),
            chat_body(structured_outputs={"choice": ["yes"]}, allowed_token_ids=[1]),
            chat_body(structured_outputs={"choice": ["yes"]}, bad_words=["yes"]),
        ):
            answer = await client.post(CHAT, json=body)
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["code"] == "invalid_job"
        await check_nothing_accepted(store)

    async def test_nesting_that_json_cannot_be_written_at_is_refused(
        self, client: httpx2.AsyncClient
    ) -> None:
        deep = b'{"not":' * 900 + b"{}" + b"}" * 900
        body = orjson.dumps(with_schema({"DEEP": 1})).replace(b'{"DEEP":1}', deep)
        answer = await client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
        check_openai_error(answer, "response_format.json_schema.schema", "got 901")


def request_line(url: str, body: dict[str, Any]) -> bytes:
    fields = {"custom_id": "a", "method": "POST", "url": url, "body": body}
    return orjson.dumps(fields) + b"\n"


@pytest.mark.settings(batches__look_seconds=0.05, batches__flush_seconds=0.1)
async def test_lines_of_batches_are_refused_alike(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    with ForbiddenServer() as server:
        cases = (
            (CHAT, asked(image(server.url)), "body.messages[2].content[1]"),
            (RESPONSES, response_input(server.url), "body.input[0].content[0]"),
            (CHAT, with_schema(SELF_REFERENCE), "body.response_format.json_schema.schema"),
            (CHAT, chat_body(stop=["x"] * 33), "body.stop"),
        )
        made = [
            (await create(client, request_line(url, body), endpoint=url))["id"]
            for url, body, _ in cases
        ]
        async with feeding(settings):
            for batch_id, (_, _, param) in zip(made, cases, strict=True):
                batch = await until(client, batch_id)
                assert batch["status"] == "failed"
                (error,) = batch["errors"]["data"]
                assert (error["code"], error["param"]) == ("invalid_job", param)
        assert server.untouched
    await check_nothing_accepted(store)


@pytest.mark.settings(complexity__stop_strings=2)
async def test_a_limit_is_a_setting(client: httpx2.AsyncClient) -> None:
    answer = await client.post(CHAT, json=chat_body(stop=["a", "b", "c"]))
    check_openai_error(answer, "stop", "expected at most 2 stop strings, got 3")


def test_the_forbidden_server_notices_a_connection() -> None:
    with ForbiddenServer() as server:
        assert server.untouched
        port = urlsplit(server.url).port
        assert port is not None
        socket.create_connection(("127.0.0.1", port)).close()
        assert not server.untouched
