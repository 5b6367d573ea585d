"""Calls are sent again when that is safe, and only then; lists and results are complete."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

import penstock
from penstock import AsyncPenstock, Penstock, RetryPolicy
from tests.support.raw_server import RawRequest, RawServer, raw_server, response

QUICK = RetryPolicy(max_retries=2, first_seconds=0.0)
BODY = {"model": "m", "messages": []}


def client_of(server: RawServer) -> Penstock:
    return Penstock(f"{server.url}/", "pk_test", retries=QUICK)


def job(number: int = 1, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 3}
    found = {"id": f"job_{number}", "status": "completed", "url": "/v1/completions", "model": "m"}
    return {**found, "created_at": 1.5, "attempt": 1, "usage": usage, **fields}


def batch(**fields: Any) -> dict[str, Any]:
    counts = {"total": 3, "completed": 2, "failed": 1}
    found = {"id": "batch_1", "status": "completed", "endpoint": "/v1/completions"}
    files = {"input_file_id": "file_1", "output_file_id": "file_2", "error_file_id": "file_3"}
    return {**found, **files, "request_counts": counts, "errors": None, **fields}


FILE = {"id": "file_1", "filename": "in.jsonl", "bytes": 3, "purpose": "batch", "created_at": 1}


@pytest.mark.parametrize("lost", [b"", response({}, 502), response(b"<html>", 504)])
def test_a_submission_whose_answer_is_lost_is_sent_again_with_the_same_key(lost: bytes) -> None:
    def answer(_: RawRequest) -> bytes:
        return lost if len(server.requests) == 1 else response(job(), 202)

    with raw_server(answer) as server, client_of(server) as client:
        assert client.submit(BODY, metadata={"order": "17"}).id == "job_1"
        client.submit(BODY)
    first, again, other = (one.headers["idempotency-key"] for one in server.requests)
    assert first == again != other
    sent = orjson.loads(server.requests[0].body)
    assert sent == {"url": "/v1/chat/completions", "body": BODY, "metadata": {"order": "17"}}
    assert server.requests[0].headers["authorization"] == "Bearer pk_test"


def test_the_key_of_the_caller_is_used() -> None:
    with raw_server(lambda _: response(job(), 202)) as server, client_of(server) as client:
        client.submit(BODY, idempotency_key="order-17", url="/v1/completions")
    assert server.requests[0].headers["idempotency-key"] == "order-17"
    assert orjson.loads(server.requests[0].body)["url"] == "/v1/completions"


def test_an_upload_is_sent_again_only_if_the_server_refused_it(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"line\n")
    refused = response({"status": 503, "code": "files-unavailable"}, 503, Retry_After="0")

    def answer(_: RawRequest) -> bytes:
        return [refused, response(FILE), b""][len(server.requests) - 1]

    with raw_server(answer) as server, client_of(server) as client:
        assert client.batches.upload(path).id == "file_1"
        with pytest.raises(penstock.ConnectionFailedError):
            client.batches.upload(b"line\n", name="x.jsonl")
    assert len(server.requests) == 3
    for request, name in zip(server.requests, ("in", "in", "x"), strict=True):
        assert b"line\n" in request.body
        assert f'filename="{name}.jsonl"'.encode() in request.body


def test_a_call_without_an_answer_is_an_error_after_all_tries() -> None:
    with (
        raw_server(lambda _: b"") as server,
        client_of(server) as client,
        pytest.raises(penstock.ConnectionFailedError, match="GET /v1/jobs/job_1"),
    ):
        client.get("job_1")
    assert len(server.requests) == 1 + QUICK.max_retries
    with pytest.raises(penstock.ConnectionFailedError), client_of(server) as client:
        client.get("job_1")


def test_a_refusal_for_long_or_for_good_is_an_error_at_once() -> None:
    answers = [
        response({"status": 429, "code": "queue-full"}, 429, Retry_After="3600"),
        response({"status": 503, "code": "engine-dead"}, 503, X_Should_Retry="false"),
        response({"status": 401, "code": "unauthenticated", "request_id": "req_1"}, 401),
    ]
    with raw_server(lambda _: answers.pop(0)) as server, client_of(server) as client:
        with pytest.raises(penstock.QueueFullError) as full:
            client.submit(BODY)
        assert full.value.retry_after == 3600
        with pytest.raises(penstock.UnavailableError, match="503 engine-dead"):
            client.submit(BODY)
        with pytest.raises(penstock.AuthenticationError) as unknown:
            client.submit(BODY)
        assert unknown.value.request_id == "req_1"
    assert len(server.requests) == 3


def test_no_retry_comes_before_the_server_wants_it() -> None:
    policy = RetryPolicy(first_seconds=1.0, longest_seconds=8.0)
    assert policy.wait_seconds(1, 30.0) == 30.0
    waits = [policy.wait_seconds(retry) for retry in range(1, 8)]
    assert all(0.5 <= wait <= 8.0 for wait in waits)
    assert min(waits[3:]) >= 4.0


def test_a_page_that_is_not_the_apis_is_an_error() -> None:
    with (
        raw_server(lambda _: response(b"<html>", 200)) as server,
        client_of(server) as client,
        pytest.raises(penstock.PenstockError, match="not the API's"),
    ):
        client.get("job_1")


@pytest.mark.parametrize("name", ["", "job_1/cancel", "../keys", "job_1?x", "job_ä/"])
def test_an_id_cannot_change_the_path(name: str) -> None:
    with (
        Penstock("http://127.0.0.1:9", "pk_test") as client,
        pytest.raises(ValueError, match="is no id"),
    ):
        client.get(name)


def test_url_and_key_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_URL", raising=False)
    monkeypatch.delenv("PENSTOCK_API_KEY", raising=False)
    with pytest.raises(ValueError, match="PENSTOCK_URL"):
        Penstock(key="pk_test")
    with pytest.raises(ValueError, match="PENSTOCK_API_KEY"):
        Penstock("http://127.0.0.1:9")
    monkeypatch.setenv("PENSTOCK_URL", "https://penstock.example.com")
    monkeypatch.setenv("PENSTOCK_API_KEY", "pk_test")
    with Penstock() as client:
        assert "pk_test" not in repr(client._transport.options)


def test_a_list_has_all_pages() -> None:
    def answer(request: RawRequest) -> bytes:
        last = "after=job_2" in request.path
        data = [job(3)] if last else [job(1), job(2)]
        return response({"data": data, "last_id": data[-1]["id"], "has_more": not last})

    with raw_server(answer) as server, client_of(server) as client:
        found = [one.id for one in client.list(status="completed")]
    assert found == ["job_1", "job_2", "job_3"]
    assert all("status=completed" in one.path for one in server.requests)


def test_a_wait_goes_on_until_the_job_has_ended_or_the_time_is_over() -> None:
    def answer(_: RawRequest) -> bytes:
        ended = len(server.requests) == 2
        return response(job(status="completed" if ended else "in_progress"))

    with raw_server(answer) as server, client_of(server) as client:
        assert client.wait("job_1").status == "completed"
        assert ["wait=30" in one.path for one in server.requests] == [True, True]
        with pytest.raises(penstock.WaitTimeoutError, match="job_1 is in_progress"):
            client.wait("job_1", max_seconds=0)


def test_a_run_without_a_result_is_an_error() -> None:
    failed = response(job(status="failed", error={"title": "Engine error"}))
    with (
        raw_server(lambda _: failed) as server,
        client_of(server) as client,
        pytest.raises(penstock.JobFailedError, match="job_1 is failed: Engine error"),
    ):
        client.run(BODY)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"choices": [{"message": {"content": "a chat"}}]}, "a chat"),
        ({"choices": [{"message": {"content": None}}]}, ""),
        ({"choices": [{"text": "a completion"}]}, "a completion"),
        ({"output": [{"content": [{"type": "output_text", "text": "a response"}]}]}, "a response"),
        ({"output": [{"type": "function_call"}]}, ""),
        (None, ""),
    ],
)
def test_the_text_of_each_kind_of_result(result: dict[str, Any] | None, text: str) -> None:
    assert penstock.JobInfo.parse(job(result=result)).text == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"text": "a"}, "a"),
        ({"text": "", "delta": {"content": "b"}}, "b"),
        ({"text": "", "delta": {"tool_calls": []}}, ""),
        ({"text": "c", "delta": {"prompt": "The"}}, "c"),
    ],
)
def test_the_text_of_each_kind_of_delta(data: dict[str, Any], text: str) -> None:
    assert penstock.JobEvent(1, "delta", data).text == text


def results_file(*names: str) -> bytes:
    lines = [
        {"custom_id": name, "response": {"status_code": 200, "body": {"n": "ü"}}, "error": None}
        for name in names
    ]
    return b"\n".join(orjson.dumps(one) for one in lines)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_results_whose_download_is_cut_at_any_byte_come_once(asynchronous: bool) -> None:
    content = results_file("a", "b") + b"\n"
    whole = response(content, Content_Length=str(len(content)))
    cuts = iter(range(len(whole)))
    cut = False

    def answer(request: RawRequest) -> bytes:
        nonlocal cut
        if "content" not in request.path:
            return response(batch(error_file_id=None))
        cut = not cut
        return whole[: next(cuts)] if cut else whole

    with raw_server(answer) as server:
        read = read_async if asynchronous else read_sync
        for found in read(server, len(whole)):
            assert found == ["a", "b"]
    assert len(server.requests) == len(whole) * 3


def read_sync(server: RawServer, rounds: int) -> list[list[str]]:
    with client_of(server) as client:
        return [
            [one.custom_id for one in client.batches.results("batch_1") if one.ok]
            for _ in range(rounds)
        ]


def read_async(server: RawServer, rounds: int) -> list[list[str]]:
    async def reading() -> list[list[str]]:
        async with AsyncPenstock(server.url, "pk_test", retries=QUICK) as client:
            return [
                [one.custom_id async for one in client.batches.results("batch_1") if one.ok]
                for _ in range(rounds)
            ]

    return asyncio.run(reading())


def test_results_are_those_of_both_files() -> None:
    error = {"code": "batch_expired", "message": "it was too late"}
    refused = orjson.dumps({"custom_id": "c", "response": None, "error": error})

    def answer(request: RawRequest) -> bytes:
        if "content" not in request.path:
            return response(batch())
        return response(refused if "file_3" in request.path else results_file("a", "b"))

    with raw_server(answer) as server, client_of(server) as client:
        found = list(client.batches.results("batch_1"))
    assert [(one.custom_id, one.ok) for one in found] == [("a", True), ("b", True), ("c", False)]
    assert (found[2].status_code, found[2].error) == (None, error)


def test_a_batch_with_invalid_lines_is_an_error() -> None:
    errors = {"data": [{"line": 2, "message": "line 2 is no JSON"}]}
    failed = response(batch(status="failed", errors=errors))
    with (
        raw_server(lambda _: failed) as server,
        client_of(server) as client,
        pytest.raises(penstock.BatchFailedError, match="line 2 is no JSON"),
    ):
        list(client.batches.results("batch_1"))


def test_openais_client_has_the_same_server_and_key() -> None:
    with Penstock("http://127.0.0.1:9", "pk_test") as client:
        ai = client.as_openai(max_retries=0)
        assert (str(ai.base_url), ai.api_key) == ("http://127.0.0.1:9/v1/", "pk_test")
        assert ai.max_retries == 0
        ai.close()
