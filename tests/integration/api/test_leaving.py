"""A client that disconnects early: what happens to its job, on every submitting route."""

import asyncio
import socket
import struct
from typing import Any

import httpx2
import orjson
import pytest

from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Keys,
    RunningApi,
    chat_body,
    chat_job,
    services,
)
from tests.support.waiting import eventually

TEXT = {"model": MODEL, "prompt": "hi"}
ROUTES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("/v1/jobs", chat_job(), {"Prefer": "wait=30"}),
    ("/v1/chat/completions", chat_body(), {}),
    ("/v1/chat/completions", chat_body(stream=True), {}),
    ("/v1/chat/completions", chat_body(), {"Prefer": "wait=30"}),
    ("/v1/completions", TEXT, {}),
    ("/v1/completions", TEXT | {"stream": True}, {}),
    ("/v1/generate", {"prompt": "hi"}, {}),
    ("/v1/generate/stream", {"prompt": "hi"}, {}),
    ("/v1/responses", {"model": MODEL, "input": "hi"}, {}),
    ("/v1/responses", {"model": MODEL, "input": "hi", "stream": True}, {}),
]


def named(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        body = value.get("body", value)
        return "stream" if "stream" in body else "-".join(value) or "plain"
    return None


@pytest.mark.parametrize(("path", "body", "prefer"), ROUTES, ids=named)
@pytest.mark.parametrize("policy", ["continue", "cancel"])
async def test_leaving_does_what_the_client_asked_for(
    client: httpx2.AsyncClient,
    store: JobStore,
    path: str,
    body: dict[str, Any],
    prefer: dict[str, str],
    policy: str,
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        async with client.stream(
            "POST", path, json=body, headers=prefer | {"X-On-Disconnect": policy}, timeout=0.5
        ) as response:
            await response.aread()

    async def statuses() -> list[str]:
        return [job["status"] for job in (await client.get("/v1/jobs")).json()["data"]]

    if policy == "continue":
        assert await statuses() == ["queued"]
        return

    async def cancelled() -> bool:
        return await statuses() == ["cancelled"]

    await eventually(cancelled)


CLIENTS = 20
#: With which the kernel sends RST instead of FIN.
RESET = struct.pack("ii", 1, 0)


async def ask(api: RunningApi, key: str, path: str, body: Any, prefer: str) -> socket.socket:
    """Send a request over a socket of its own and read nothing."""
    sent = orjson.dumps(body)
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(sent)}"]
    lines += ["X-On-Disconnect: cancel", *([f"Prefer: {prefer}"] if prefer else [])]
    connection = socket.create_connection(("127.0.0.1", httpx2.URL(api.url).port))
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
    return connection


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("polled", [False, True], ids=["alone", "polled"])
@pytest.mark.parametrize(
    ("path", "body", "prefer"),
    [
        ("/v1/chat/completions", chat_body(), ""),
        ("/v1/chat/completions", chat_body(stream=True), ""),
        ("/v1/jobs", chat_job(), "wait=30"),
    ],
    ids=["whole", "stream", "job"],
)
async def test_every_client_that_leaves_is_noticed_while_others_poll_its_job(
    api: RunningApi,
    keys: Keys,
    client: httpx2.AsyncClient,
    path: str,
    body: Any,
    prefer: str,
    polled: bool,
    reset: bool,
) -> None:
    """Long polls never count, and a reset is as good as an orderly end."""

    async def jobs() -> list[dict[str, Any]]:
        return (await client.get("/v1/jobs", params={"limit": CLIENTS})).json()["data"]

    async def all_taken() -> bool:
        return len(await jobs()) == CLIENTS

    connections = [await ask(api, keys.acme, path, body, prefer) for _ in range(CLIENTS)]
    await eventually(all_taken)
    polls = [
        asyncio.create_task(client.get(f"/v1/jobs/{job['id']}", params={"wait": 20}, timeout=30))
        for job in (await jobs() if polled else [])
    ]

    async def all_polled() -> bool:
        return len(services(api).open_requests._requests) == CLIENTS + len(polls)

    await eventually(all_polled)
    for connection in connections:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    async def all_cancelled() -> bool:
        return {job["status"] for job in await jobs()} == {"cancelled"}

    await eventually(all_cancelled)
    for answer in await asyncio.gather(*polls):
        assert answer.json()["status"] == "cancelled"
