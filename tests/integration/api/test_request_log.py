"""Every request leaves one line in the log, and no line has a secret or a prompt in it."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from accounts.caller import Limits, Role
from tests.integration.api.conftest import (
    Hand,
    Keys,
    RunningApi,
    answering,
    chat_body,
    chat_job,
    connect,
)
from tests.support.keys import make_key
from tests.support.waiting import eventually

PROMPT = "a prompt that is nowhere in the log"
WORD = "unspoken"


class Lines:
    """The lines of requests that were logged since this object was made."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.text = ""

    def read(self) -> list[dict[str, Any]]:
        self.text += self._capsys.readouterr().err
        found = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == "request"]

    async def of(self, response: httpx2.Response) -> dict[str, Any]:
        """Return the only line of a request; it is written after the answer."""
        request_id = response.headers["x-request-id"]

        async def found() -> list[dict[str, Any]]:
            return [line for line in self.read() if line["request_id"] == request_id]

        (line,) = await eventually(found)
        return line

    async def first(self) -> dict[str, Any]:
        """Return the only line that there is."""

        async def found() -> list[dict[str, Any]]:
            return self.read()

        (line,) = await eventually(found)
        return line


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return Lines(capsys)


async def test_a_line_says_what_was_asked_by_which_key_and_how_it_ended(
    client: httpx2.AsyncClient, hand: Hand, lines: Lines
) -> None:
    caller = (await client.get("/v1/me")).json()
    body = chat_job(body=chat_body(messages=[{"role": "user", "content": PROMPT}]))
    async with answering(hand, WORD) as taken:
        made = await client.post("/v1/jobs", json=body)
        streamed = await client.get(f"/v1/jobs/{made.json()['id']}/stream?note={WORD}")
    read = await client.get(f"/v1/jobs/{taken[0].id}", params={"wait": "1", "note": WORD})

    expected = [
        (made, "POST", "/v1/jobs", 202),
        (streamed, "GET", "/v1/jobs/{job_id}/stream", 200),
        (read, "GET", "/v1/jobs/{job_id}", 200),
    ]
    for response, method, route, status in expected:
        line = await lines.of(response)
        assert (line["method"], line["route"], line["status"]) == (method, route, status)
        assert (line["account"], line["key"]) == ("acme", caller["id"])
        assert line["job"] == taken[0].id
        assert line["bytes"] == len(response.content)
        assert 0 < line["ms"] < 60_000
        assert (line["process"], line["level"]) == ("api", "info")
        assert line["timestamp"].endswith("Z")
        assert "path" not in line
    assert PROMPT not in lines.text
    assert WORD not in lines.text


async def test_refused_requests_leave_a_trace(
    api: RunningApi, keys: Keys, client: httpx2.AsyncClient, lines: Lines
) -> None:
    limits = Limits(requests_per_minute=1)
    small = await asyncio.to_thread(make_key, api.settings, "small", limits=limits)
    reader = await asyncio.to_thread(make_key, api.settings, "acme", role=Role.VIEWER)
    wrong = "pk_" + "x" * 43
    async with (
        connect(api, wrong) as stranger,
        connect(api, small) as limited,
        connect(api, reader) as viewer,
    ):
        refused = [
            (await stranger.get("/v1/models"), "/v1/models", 401, None),
            (await viewer.post("/v1/jobs", json=chat_job()), "/v1/jobs", 403, "acme"),
            (await client.get("/v1/jobs/job_none"), "/v1/jobs/{job_id}", 404, "acme"),
            (await client.post("/v1/jobs", json={}), "/v1/jobs", 422, "acme"),
            (await limited.post("/v1/jobs", json=chat_job()), "/v1/jobs", 202, "small"),
            (await limited.post("/v1/jobs", json=chat_job()), "/v1/jobs", 429, "small"),
        ]
        nowhere = await client.get(f"/v1/v1/{wrong}/x?key={keys.acme}")

    for response, route, status, account in refused:
        line = await lines.of(response)
        assert (line["route"], line["status"], line.get("account")) == (route, status, account)
    line = await lines.of(nowhere)
    assert (line["route"], line["status"]) == ("unmatched", 404)
    assert line["path"] == "/v1/v1/pk_.../x"
    for secret in (wrong, keys.acme, small, reader):
        assert secret not in lines.text


async def test_what_is_not_http_leaves_a_trace(api: RunningApi, lines: Lines) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"hello there\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()

    line = await lines.first()
    assert (line["status"], line["route"]) == (400, "unmatched")
    assert f"x-request-id: {line['request_id']}" in answer


async def test_a_client_that_leaves_before_the_answer_is_499(
    api: RunningApi, keys: Keys, lines: Lines
) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    body = json.dumps(chat_body()).encode()
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: left\r\n"
        b"authorization: Bearer " + keys.acme.encode() + b"\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await writer.drain()
    writer.close()

    line = await lines.first()
    assert (line["request_id"], line["status"], line["bytes"]) == ("left", 499, 0)
    assert line["account"] == "acme"


@pytest.mark.settings(log__requests=0.0)
async def test_the_log_of_requests_can_be_off(client: httpx2.AsyncClient, lines: Lines) -> None:
    assert (await client.get("/v1/jobs/job_none")).status_code == 404
    assert (await client.get("/v1/models")).status_code == 200

    assert lines.read() == []


@pytest.mark.settings(log__requests=1e-9)
async def test_a_share_of_the_requests_is_logged_and_every_refusal(
    client: httpx2.AsyncClient, lines: Lines
) -> None:
    for _ in range(20):
        assert (await client.get("/v1/models")).status_code == 200
    refused = await client.get("/v1/jobs/job_none")

    assert (await lines.of(refused))["status"] == 404
    assert len(lines.read()) == 1


async def test_probes_are_logged_only_when_they_fail(
    client: httpx2.AsyncClient, lines: Lines
) -> None:
    for path in ("/health", "/ready", "/metrics"):
        assert (await client.get(path)).status_code == 200
    await lines.of(await client.get("/v1/models"))

    assert [line["route"] for line in lines.read()] == ["/v1/models"]
