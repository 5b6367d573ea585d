"""OpenAI's Python client, synchronous and asynchronous: every call of the served resources."""

import base64
import json
import uuid
from array import array
from typing import Any

import openai
import pytest

from accounts.caller import Limits, Role
from tests.clients.conftest import EMBEDDER, MESSAGES, MODEL, Caller, Service, done, listed
from tests.support.waiting import eventually
from workers.engines.simulated_text import expected, vector

ASKED: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12}
TEXT = expected(ASKED).text
SAID: dict[str, Any] = {"model": MODEL, "input": MESSAGES[0]["content"], "max_output_tokens": 12}
HANGS: Any = [{"role": "user", "content": "[[fault:hang=2]] Tell me about the river."}]
FAILS_AT_ONCE = "[[fault:error=0]] The mill"
FAILS: Any = [{"role": "user", "content": "[[fault:error=2]] Tell me about the river."}]


# --- chat and text completions --------------------------------------------------------


async def test_a_chat_is_answered_whole_and_in_chunks(call: Caller) -> None:
    whole = await call("chat.completions.create", **ASKED)
    assert whole.choices[0].message.content == TEXT
    assert whole.usage.completion_tokens == len(expected(ASKED).token_ids)
    chunks = await call(
        "chat.completions.create", **ASKED, stream=True, stream_options={"include_usage": True}
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (said, chunks[-1].usage) == (TEXT, whole.usage)


async def test_choices_and_stop_strings_are_the_engines(call: Caller) -> None:
    asked = {**ASKED, "n": 3, "stop": [TEXT[8:11]]}
    answer = await call("chat.completions.create", **asked)
    for index, choice in enumerate(answer.choices):
        assert choice.message.content == expected(asked, index).text
        assert choice.finish_reason == expected(asked, index).finish_reason


async def test_the_stream_reader_of_chats_puts_the_answer_together(call: Caller) -> None:
    asked = {**ASKED, "max_tokens": 300}
    async with call.within("chat.completions.stream", **asked) as stream:
        kinds = {event.type for event in await listed(stream)}
        answer = await done(stream.get_final_completion())
    assert kinds >= {"chunk", "content.delta", "content.done"}
    assert answer.choices[0].message.content == expected(asked).text


async def test_a_text_is_continued_whole_and_in_chunks(call: Caller) -> None:
    asked = {"model": MODEL, "prompt": "The mill", "max_tokens": 9}
    whole = await call("completions.create", **asked)
    assert whole.choices[0].text == expected(asked).text
    chunks = await call("completions.create", **asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


async def test_several_prompts_are_one_answer_whole_and_in_chunks(call: Caller) -> None:
    prompts = ["The mill", "The long river runs"]
    asked = {"model": MODEL, "prompt": prompts, "n": 2, "max_tokens": 9, "echo": True}
    whole = await call("completions.create", **asked)
    said = [prompts[index // 2] + expected(asked, index).text for index in range(4)]
    assert [(choice.index, choice.text) for choice in whole.choices] == list(enumerate(said))
    assert whole.usage.prompt_tokens == 2 + 4  # each prompt once
    made = sum(len(expected(asked, index).token_ids) for index in range(4))
    assert whole.usage.completion_tokens == made

    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await call("completions.create", **asked, stream=True, stream_options=options)

    texts = [""] * 4
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
    assert texts == said
    assert {chunk.usage.prompt_tokens for chunk in chunks} == {6}
    assert [chunk.usage.completion_tokens for chunk in chunks[-2:]] == [made, made]


async def test_a_prompt_alone_is_echoed_without_output(call: Caller) -> None:
    asked = {"model": MODEL, "prompt": "The mill", "max_tokens": 0, "echo": True}
    whole = await call("completions.create", **asked)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("The mill", "length")
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 0)


async def test_models_are_listed_and_read(call: Caller) -> None:
    assert [model.id for model in await call.pages("models.list")] == [MODEL, EMBEDDER]
    assert (await call("models.retrieve", model=MODEL)).owned_by == "penstock"


# --- responses ------------------------------------------------------------------------


async def test_a_response_is_answered_streamed_and_read_again(call: Caller) -> None:
    whole = await call("responses.create", **SAID)
    assert whole.output_text == TEXT
    assert whole.status == "incomplete"
    events = await call("responses.create", **SAID, stream=True)
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    name = events[0].response.id
    assert events[-1].response == await call("responses.retrieve", response_id=name)
    rest = await call("responses.retrieve", response_id=name, stream=True, starting_after=4)
    assert rest == events[5:]


async def test_the_stream_reader_of_responses_puts_the_answer_together(call: Caller) -> None:
    asked = {**SAID, "max_output_tokens": 300}
    async with call.within("responses.stream", **asked) as stream:
        kinds = {event.type for event in await listed(stream)}
        final = await done(stream.get_final_response())
    assert "response.output_text.delta" in kinds
    chat = {"model": MODEL, "messages": MESSAGES, "max_tokens": 300}
    assert final.output_text == expected(chat).text


async def test_a_conversation_goes_on_and_its_items_are_listed(call: Caller) -> None:
    first = await call("responses.create", **SAID)
    second = await call("responses.create", **SAID, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    asked = {"response_id": second.id, "limit": 2, "order": "asc"}
    items = await call.pages("responses.input_items.list", **asked)
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert items[1].content[0].text == TEXT


async def test_a_background_response_is_polled_cancelled_and_deleted(call: Caller) -> None:
    hanging = {**SAID, "input": HANGS[0]["content"], "background": True}
    started = await call("responses.create", **hanging)
    assert started.status == "queued"
    cancelled = await call("responses.cancel", response_id=started.id)
    assert cancelled.status == "cancelled"
    assert await call("responses.delete", response_id=started.id) is None
    with pytest.raises(openai.NotFoundError):
        await call("responses.retrieve", response_id=started.id)


# --- embeddings -----------------------------------------------------------------------


async def test_texts_and_tokens_are_embedded(call: Caller) -> None:
    texts = ["The mill", "a river", "The mill"]
    answer = await call("embeddings.create", model=EMBEDDER, input=texts)
    assert [one.index for one in answer.data] == [0, 1, 2]
    for one, text in zip(answer.data, texts, strict=True):
        assert one.embedding == floats(vector(text))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (6, 6)
    plain = await call(
        "embeddings.create", model=EMBEDDER, input="The mill", encoding_format="float"
    )
    assert plain.data[0].embedding == answer.data[0].embedding
    tokens = await call("embeddings.create", model=EMBEDDER, input=[1, 2, 3])
    assert tokens.data[0].embedding == floats(vector([1, 2, 3]))
    assert tokens.usage.prompt_tokens == 3


def floats(encoded: str) -> list[float]:
    """Return the numbers of a vector."""
    return array("f", base64.b64decode(encoded)).tolist()


# --- files and batches ----------------------------------------------------------------


def lines(*prompts: str) -> bytes:
    """Return a file of requests."""
    asked = [
        {
            "custom_id": f"line {number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**ASKED, "messages": [{"role": "user", "content": prompt}]},
        }
        for number, prompt in enumerate(prompts)
    ]
    return b"\n".join(json.dumps(one).encode() for one in asked)


async def test_a_batch_is_uploaded_run_and_its_results_fetched(call: Caller) -> None:
    content = lines("one", "two", "three")
    file = await call("files.create", file=("in.jsonl", content), purpose="batch")
    assert (file.filename, file.bytes) == ("in.jsonl", len(content))
    assert await call("files.retrieve", file_id=file.id) == file
    assert file.id in [one.id for one in await call.pages("files.list", purpose="batch")]
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = await call("batches.create", input_file_id=file.id, **asked)

    async def ended() -> Any:
        found = await call("batches.retrieve", batch_id=batch.id)
        return found if found.status == "completed" else None

    done_batch = await eventually(ended, 30)
    assert done_batch.request_counts.completed == 3
    output = await call("files.content", file_id=done_batch.output_file_id)
    results = [json.loads(line) for line in output.text.splitlines()]
    assert sorted(one["custom_id"] for one in results) == ["line 0", "line 1", "line 2"]
    for one in results:
        prompt = ("one", "two", "three")[int(one["custom_id"][-1])]
        body = {**ASKED, "messages": [{"role": "user", "content": prompt}]}
        said = one["response"]["body"]["choices"][0]["message"]["content"]
        assert said == expected(body).text
    assert batch.id in [one.id for one in await call.pages("batches.list")]
    assert (await call("files.delete", file_id=file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await call("files.retrieve", file_id=file.id)


async def test_a_batch_is_cancelled_and_a_broken_file_is_said_to_be(call: Caller) -> None:
    file = await call(
        "files.create", file=("in.jsonl", lines(HANGS[0]["content"])), purpose="batch"
    )
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = await call("batches.create", input_file_id=file.id, **asked)
    assert (await call("batches.cancel", batch_id=batch.id)).status in ("cancelling", "cancelled")
    broken = await call("files.create", file=("in.jsonl", b'{"custom_id": 5}'), purpose="batch")
    failed = await call("batches.create", input_file_id=broken.id, **asked)

    async def ended() -> Any:
        found = await call("batches.retrieve", batch_id=failed.id)
        return found if found.status == "failed" else None

    found = await eventually(ended, 30)
    assert found.errors.data[0].line == 1
    with pytest.raises(openai.BadRequestError):
        await call("files.create", file=("in.jsonl", b"{}"), purpose="vision")


# --- raw and streaming responses ------------------------------------------------------


async def test_raw_and_streaming_responses_show_headers_and_body(call: Caller) -> None:
    raw = await call("chat.completions.with_raw_response.create", **ASKED)
    assert raw.headers["x-penstock-job"].startswith("job_")
    assert raw.headers["x-request-id"]
    assert (await done(raw.parse())).choices[0].message.content == TEXT
    path = "chat.completions.with_streaming_response.create"
    async with call.within(path, **ASKED, stream=True) as response:
        lines = await listed(response.iter_lines())
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]"


async def test_preferences_turn_a_call_into_a_job(call: Caller) -> None:
    headers = {"Prefer": "respond-async"}
    raw = await call("chat.completions.with_raw_response.create", **ASKED, extra_headers=headers)
    assert raw.status_code == 202
    assert raw.headers["location"].endswith(raw.headers["x-penstock-job"])


# --- errors ---------------------------------------------------------------------------


CHAT, EMBED = "chat.completions.create", "embeddings.create"
REFUSALS: list[tuple[str, dict[str, Any], type[openai.APIStatusError], str]] = [
    (CHAT, {**ASKED, "temperature": 9}, openai.BadRequestError, "invalid_job"),
    (
        CHAT,
        {**ASKED, "prediction": {"type": "content", "content": "x"}},
        openai.BadRequestError,
        "unsupported_parameter",
    ),
    (CHAT, {**ASKED, "model": "x"}, openai.NotFoundError, "model_not_found"),
    (CHAT, {**ASKED, "messages": FAILS}, openai.InternalServerError, "engine_error"),
    ("responses.create", {**SAID, "input": []}, openai.BadRequestError, "invalid_job"),
    ("responses.retrieve", {"response_id": "resp_x"}, openai.NotFoundError, "job_not_found"),
    (EMBED, {"model": MODEL, "input": "x"}, openai.BadRequestError, "unsupported_model"),
    (EMBED, {"model": MODEL, "input": [[]]}, openai.BadRequestError, "invalid_job"),
    (
        EMBED,
        {"model": EMBEDDER, "input": FAILS_AT_ONCE},
        openai.InternalServerError,
        "engine_error",
    ),
    (CHAT, {**ASKED, "model": EMBEDDER}, openai.BadRequestError, "unsupported_model"),
    ("responses.create", {**SAID, "model": EMBEDDER}, openai.BadRequestError, "unsupported_model"),
    (EMBED, {"model": "x", "input": "x"}, openai.NotFoundError, "model_not_found"),
    ("models.retrieve", {"model": "org/x"}, openai.NotFoundError, "model_not_found"),
    ("moderations.create", {"input": "x"}, openai.NotFoundError, "not_found"),
]


@pytest.mark.parametrize(("path", "arguments", "kind", "code"), REFUSALS)
async def test_errors_are_the_clients_exceptions(
    call: Caller, path: str, arguments: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as raised:
        await call(path, **arguments)
    assert raised.value.code == code
    assert raised.value.request_id


async def test_a_body_that_is_too_large_says_so(call: Caller) -> None:
    messages = [{"role": "user", "content": "x" * 200_000}]
    with pytest.raises(openai.APIStatusError) as raised:
        await call("chat.completions.create", model=MODEL, messages=messages)
    assert (raised.value.status_code, raised.value.code) == (413, "body_too_large")


async def test_an_unknown_key_is_an_authentication_error(call: Caller) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        await call.with_(api_key="pk_wrong")("models.list")
    assert raised.value.code == "invalid_api_key"


async def test_a_role_that_may_not_is_a_permission_error(call: Caller, service: Service) -> None:
    viewer = call.with_(api_key=service.new_key("acme", role=Role.VIEWER))
    with pytest.raises(openai.PermissionDeniedError):
        await viewer("chat.completions.create", **ASKED)
    assert await viewer.pages("models.list")


async def test_deleting_what_runs_is_a_conflict(call: Caller) -> None:
    hanging = {**SAID, "input": HANGS[0]["content"], "background": True}
    started = await call("responses.create", **hanging)
    with pytest.raises(openai.ConflictError) as raised:
        await call("responses.delete", response_id=started.id)
    assert raised.value.code == "job_conflict"
    await call("responses.cancel", response_id=started.id)


async def test_an_idempotency_key_gives_one_job_and_refuses_another_body(call: Caller) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    path = "chat.completions.with_raw_response.create"
    raws = [await call(path, **ASKED, extra_headers=headers) for _ in range(2)]
    assert len({raw.headers["x-penstock-job"] for raw in raws}) == 1
    assert raws[1].headers["idempotency-replayed"] == "true"
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        await call(path, **{**ASKED, "max_tokens": 5}, extra_headers=headers)
    assert raised.value.code == "idempotency_mismatch"


# --- retries, timeouts, connections ---------------------------------------------------


async def test_a_limit_is_a_rate_limit_error_and_the_clients_own_retry_gets_through(
    call: Caller, service: Service
) -> None:
    account = f"limited-{uuid.uuid4().hex[:8]}"
    key = service.new_key(account, limits=Limits(requests_per_minute=60))
    impatient = call.with_(api_key=key)

    async def until_refused() -> None:
        for _ in range(200):
            await impatient("chat.completions.create", **ASKED)

    with pytest.raises(openai.RateLimitError) as raised:
        await until_refused()
    assert raised.value.code == "rate_limit_exceeded"
    assert int(raised.value.response.headers["retry-after"]) >= 1
    patient = call.with_(api_key=key, max_retries=3)
    assert (await patient("chat.completions.create", **ASKED)).choices


async def test_a_failed_job_is_not_repeated_by_the_client(call: Caller, service: Service) -> None:
    account = f"failing-{uuid.uuid4().hex[:8]}"
    mine = call.with_(api_key=service.new_key(account), max_retries=3)
    with pytest.raises(openai.InternalServerError) as raised:
        await mine("chat.completions.create", **{**ASKED, "messages": FAILS})
    assert raised.value.response.headers["x-should-retry"] == "false"
    jobs = await mine("get", path="/jobs", cast_to=object)
    assert len(jobs["data"]) == 1


async def test_a_client_that_waits_no_longer_raises_and_its_job_is_cancelled(
    call: Caller, service: Service
) -> None:
    account = f"leaving-{uuid.uuid4().hex[:8]}"
    mine = call.with_(api_key=service.new_key(account))
    with pytest.raises(openai.APITimeoutError):
        await mine.with_(timeout=0.5)("chat.completions.create", **{**ASKED, "messages": HANGS})
    jobs = await mine("get", path="/jobs?limit=1", cast_to=object)
    job = await mine("get", path=f"/jobs/{jobs['data'][0]['id']}?wait=10", cast_to=object)
    assert job["status"] == "cancelled"


async def test_no_server_is_a_connection_error(call: Caller) -> None:
    with pytest.raises(openai.APIConnectionError):
        await call.with_(base_url="http://127.0.0.1:9/v1")("models.list")


async def test_a_stream_that_fails_raises_in_the_middle(call: Caller) -> None:
    with pytest.raises(openai.APIError) as raised:
        await call("chat.completions.create", **{**ASKED, "messages": FAILS}, stream=True)
    assert raised.value.code == "engine_error"


async def test_the_tokens_of_a_response_are_counted_as_they_are_charged(call: Caller) -> None:
    asked = {"model": MODEL, "input": "Tell me about the river.", "instructions": "Be brief."}
    counted = await call("responses.input_tokens.count", **asked)
    response = await call("responses.create", **asked, max_output_tokens=2)
    assert counted.input_tokens == response.usage.input_tokens > 0
