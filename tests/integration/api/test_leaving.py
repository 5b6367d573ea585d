"""A client that disconnects early: what happens to its job, on every submitting route."""

from typing import Any

import httpx2
import pytest

from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, chat_body, chat_job
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
