"""One job in traces and logs: a whole trace from client to bill, and no prompt or output."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.store.store_factory import open_store
from tests.support.keys import make_key, prepare_database, sqlite_in
from tests.support.otlp import OtlpReceiver, Received
from tests.support.processes import Pipeline, PipelineProcess, connect, whole_pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, simulated_settings
from tests.support.sse import parse_sse
from tests.support.waiting import eventually

CLIENT_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
MARKER = "xyzzy-marker"
PARTS = ("queue", "attempt", "claim", "prefill", "decode", "deliver", "bill")


@pytest.fixture(scope="module")
def running(
    redis_server: RedisServer,
    receiver: OtlpReceiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("traces")
    settings = simulated_settings(
        redis_server,
        step_seconds=0.01,
        database=sqlite_in(directory),
        retention={"start": "archive"},
        lease={"seconds": 1.8, "heartbeat_seconds": 0.3, "sweep_seconds": 0.2},
        redis={"url": redis_server.url, "prefix": "traced", "timeout_seconds": 1.0},
        trace={"endpoint": receiver.endpoint, "export_seconds": 0.1},
        log={"level": "DEBUG"},
    )
    prepare_database(settings)
    with whole_pipeline(settings, directory) as started:
        yield started


@pytest.fixture
def api(running: Pipeline) -> PipelineProcess:
    return running.first("api")


def body(tokens: int = 20, prompt: str = MARKER) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}


def traceparent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{CLIENT_SPAN}-{flags}"}


async def whole(receiver: OtlpReceiver, trace_id: str, *names: str) -> dict[str, list[Received]]:
    """Wait until a trace has spans of all these names; return all its spans by name."""

    async def there() -> bool:
        return all(receiver.named(name, trace_id) for name in names)

    await eventually(there, 20)
    found = {span.name for span in receiver.spans if span.trace_id == trace_id}
    return {name: receiver.named(name, trace_id) for name in found}


async def test_one_trace_from_the_clients_span_to_the_bill(
    api: PipelineProcess, receiver: OtlpReceiver
) -> None:
    async with connect(api, make_key(api.settings)) as client:
        answer = await client.post(
            "/v1/completions", json={**body(), "stream": True}, headers=traceparent(CLIENT_TRACE)
        )
        job_id = answer.headers["x-penstock-job"]

    spans = await whole(receiver, CLIENT_TRACE, "POST /v1/completions", "submit", *PARTS)

    assert all(len(found) == 1 for found in spans.values()), spans
    one = {name: found[0] for name, found in spans.items()}
    server, submit, attempt = one["POST /v1/completions"], one["submit"], one["attempt"]
    assert server.parent_id == CLIENT_SPAN
    assert submit.parent_id == server.span_id
    for name in ("queue", "attempt", "deliver", "bill"):
        assert one[name].parent_id == submit.span_id, name
    for name in ("claim", "prefill", "decode"):
        assert one[name].parent_id == attempt.span_id, name
    assert one["claim"].ended <= one["prefill"].began <= one["prefill"].ended <= one["decode"].began
    assert one["queue"].ended == attempt.began <= one["decode"].ended == attempt.ended
    assert {span.service for span in one.values()} == {
        "penstock-api", "penstock-worker", "penstock-ledger",
    }  # fmt: skip
    assert server.attributes["http.response.status_code"] == 200
    assert attempt.attributes["penstock.job.id"] == job_id
    assert attempt.attributes["gen_ai.request.model"] == MODEL
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 20
    assert not any(span.error for span in one.values())
    assert MARKER.encode() not in receiver.raw


async def test_a_killed_workers_attempt_is_ended_for_it_and_linked_from_the_next(
    running: Pipeline, api: PipelineProcess, receiver: OtlpReceiver
) -> None:
    trace_id = "a" * 32
    async with connect(api, make_key(api.settings)) as client:
        job = {"url": "/v1/completions", "body": body(tokens=200)}
        headers = traceparent(trace_id)
        job_id = (await client.post("/v1/jobs", json=job, headers=headers)).json()["id"]

        async def begun() -> bool:
            shown = (await client.get(f"/v1/jobs/{job_id}")).json()
            written = receiver.named("queue", trace_id)
            return bool(shown["status"] == "in_progress" and written)

        await eventually(begun)
        worker = running.first("worker")
        worker.signal(signal.SIGKILL)
        worker.wait()
        running.processes.remove(worker)
        running.worker()
        done = await client.get(f"/v1/jobs/{job_id}", params={"wait": 30})
        assert (done.json()["status"], done.json()["attempt"]) == ("completed", 1)

    spans = await whole(receiver, trace_id, "bill", "decode")

    first, second = spans["attempt"]
    assert first.attributes["penstock.attempt"] == 1
    assert (first.error, first.service) == ("lease-lost", "penstock-control")
    assert first.attributes["penstock.worker"] != second.attributes["penstock.worker"]
    assert second.attributes["penstock.attempt"] == 1, "a killed worker costs no attempt"
    assert (second.error, second.links) == ("", (first.span_id,))
    assert first.ended <= second.began
    assert [span.attributes["penstock.attempt"] for span in spans["queue"]] == [1, 1]
    assert len(spans["bill"]) == 1


async def test_a_trace_that_the_client_did_not_sample_is_not_recorded(
    api: PipelineProcess, receiver: OtlpReceiver
) -> None:
    trace_id = "b" * 32
    async with connect(api, make_key(api.settings)) as client:
        unsampled = traceparent(trace_id, "00")
        answer = await client.post("/v1/completions", json=body(), headers=unsampled)
        assert answer.status_code == 200
        own = await client.post("/v1/completions", json=body())
        job_id = own.headers["x-penstock-job"]

    async def other_is_there() -> bool:
        return any(span.attributes.get("penstock.job.id") == job_id for span in
                   receiver.named("bill"))  # fmt: skip

    await eventually(other_is_there, 20)
    assert not [span for span in receiver.spans if span.trace_id == trace_id]


async def test_a_repeat_in_another_trace_is_still_the_same_request(
    api: PipelineProcess, receiver: OtlpReceiver
) -> None:
    job = {"url": "/v1/completions", "body": body()}
    async with connect(api, make_key(api.settings)) as client:
        key = {"Idempotency-Key": "again"}
        first, second = [
            await client.post("/v1/jobs", json=job, headers={**key, **traceparent(trace_id)})
            for trace_id in ("e" * 32, "c" * 32)
        ]
    assert second.status_code == 202, second.text
    assert second.json()["id"] == first.json()["id"]
    spans = await whole(receiver, "c" * 32, "submit")
    assert spans["submit"][0].attributes["penstock.replayed"] is True


# --- logs -----------------------------------------------------------------------------


def lines(running: Pipeline) -> dict[str, list[dict[str, Any]]]:
    """Return every line of every process, which must all be JSON objects of one shape."""
    found: dict[str, list[dict[str, Any]]] = {}
    for process in running.processes:
        for line in process.output().splitlines():
            record = json.loads(line)
            assert {"event", "level", "timestamp", "process"} <= set(record), line
            found.setdefault(process.name, []).append(record)
    return found


async def test_a_jobs_lines_carry_its_request_its_account_and_its_trace(
    running: Pipeline, api: PipelineProcess, receiver: OtlpReceiver
) -> None:
    trace_id = "d" * 32
    headers = {"X-Request-ID": "my-own-id", **traceparent(trace_id)}
    async with connect(api, make_key(api.settings)) as client:
        answer = await client.post("/v1/completions", json=body(), headers=headers)
    assert answer.headers["x-request-id"] == "my-own-id"
    job_id = answer.headers["x-penstock-job"]

    async def ended() -> bool:
        return bool(of_job("job_ended"))

    def of_job(event: str) -> list[dict[str, Any]]:
        found = lines(running)["worker"]
        return [line for line in found if line["event"] == event and line["job_id"] == job_id]

    await eventually(ended)
    for event in ("attempt_started", "job_ended"):
        (line,) = of_job(event)
        ids = (line["request_id"], line["account_id"], line["trace_id"])
        assert ids == ("my-own-id", "acme", trace_id), event


async def test_every_answer_about_a_traced_job_names_its_trace(api: PipelineProcess) -> None:
    trace_id = "e" * 32
    async with connect(api, make_key(api.settings)) as client:
        client.headers.update(traceparent(trace_id))
        job = {"url": "/v1/completions", "body": body(tokens=2)}
        accepted = await client.post("/v1/jobs", json=job)
        stream = await client.get(f"/v1/jobs/{accepted.json()['id']}/stream")
        prompt = {"model": MODEL, "prompt": MARKER, "max_tokens": 2}
        whole = await client.post("/v1/generate", json=prompt)
        generated = await client.post("/v1/generate/stream", json=prompt)
        chat = await client.post("/v1/completions", json=body(tokens=2))
        problem = await client.get("/v1/jobs/job_unknown")
        foreign = await client.post("/v1/completions", json={"model": MODEL, "prompt": 1.5})
        anthropic = await client.post("/v1/messages", json={"model": MODEL})

    answers = (accepted, stream, whole, generated, chat, problem, foreign, anthropic)
    assert [answer.headers.get("x-trace-id") for answer in answers] == [trace_id] * len(answers)
    bodies = [
        *(answer.json() for answer in (accepted, whole, problem, anthropic)),
        foreign.json()["error"],
        *(parse_sse(answer.text)[-1].json for answer in (stream, generated)),
    ]
    assert [shown["trace_id"] for shown in bodies] == [trace_id] * len(bodies)


async def test_an_answer_names_no_trace_if_the_client_wants_none(api: PipelineProcess) -> None:
    async with connect(api, make_key(api.settings)) as client:
        client.headers.update(traceparent("f" * 32, flags="00"))
        answer = await client.post("/v1/generate", json={"model": MODEL, "prompt": MARKER})
        problem = await client.get("/v1/jobs/job_unknown")
    assert answer.json()["trace_id"] is None
    assert "trace_id" not in problem.json()
    assert not [found for found in (answer, problem) if "x-trace-id" in found.headers]


async def test_no_line_of_any_process_has_a_word_of_prompt_or_output(
    running: Pipeline, api: PipelineProcess
) -> None:
    outputs = []
    async with connect(api, make_key(api.settings)) as client:
        chat = {
            "model": MODEL,
            "messages": [{"role": "user", "content": MARKER}],
            "max_tokens": 40,
            "ignore_eos": True,
        }
        answer = await client.post("/v1/chat/completions", json=chat)
        outputs.append(answer.json()["choices"][0]["message"]["content"])
        failing = body(prompt=f"[[fault:error-once=3]] {MARKER}")
        answer = await client.post("/v1/completions", json=failing)
        outputs.append(answer.json()["choices"][0]["text"])
        wrong = {**body(), "temperature": MARKER}
        assert (await client.post("/v1/completions", json=wrong)).status_code == 400
        job = {"url": "/v1/completions", "body": body()}
        job_id = (await client.post("/v1/jobs", json=job)).json()["id"]
        done = await client.get(f"/v1/jobs/{job_id}", params={"wait": 20})
        outputs.append(done.json()["result"]["choices"][0]["text"])
        key = client.headers["authorization"].split()[1]

    async def billed() -> bool:
        settings = running.settings
        store = open_store(settings)
        try:
            return not await store.redis.xlen(store.keys.outbox)
        finally:
            await store.close()

    await eventually(billed)
    assert {"api", "worker", "control", "ledger"} <= set(lines(running))
    for process in running.processes:
        log = process.output()
        assert MARKER not in log, process.name
        assert key not in log, process.name
        for output in outputs:
            assert len(output) > 20
            assert output[:20] not in log, process.name
            assert json.dumps(output)[1:21] not in log, process.name
