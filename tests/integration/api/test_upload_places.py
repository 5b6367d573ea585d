"""Uploads have places per account, so that slow ones leave some to others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.integration.api.conftest import RunningApi, services
from tests.support.waiting import eventually


@pytest.mark.settings(files__uploads=3, files__uploads_per_account=2)
async def test_slow_uploads_of_one_account_leave_places_to_others(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient, api: RunningApi
) -> None:
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        whole = b"".join(
            (
                b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n',
            )
        )
        yield whole
        await go.wait()
        yield b"{}\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    uploads = [
        asyncio.create_task(client.post("/v1/files", content=slow(), headers=headers))
        for _ in range(2)
    ]

    form: Any = {"files": {"file": ("f.jsonl", b"{}")}, "data": {"purpose": "batch"}}

    async def both_run() -> bool:
        return bool(services(api).upload_limit._running["acme"] == 2)

    await eventually(both_run)
    refused = await client.post("/v1/files", **form)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert "2 of one account" in refused.text
    assert (await other.post("/v1/files", **form)).status_code == 200
    go.set()
    assert [answer.status_code for answer in await asyncio.gather(*uploads)] == [200, 200]
