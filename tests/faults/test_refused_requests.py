"""Requests that used to stall or kill a worker are refused, and all other clients are served."""

from pathlib import Path
from typing import Any

import pytest

from jobs.status import Status
from tests.support.api_case import case, settings_of
from tests.support.invariants import check_nothing_left
from tests.support.listening import ForbiddenServer
from tests.support.processes import connect
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL
from tests.support.waiting import eventually

SELF_REFERENCE = {"$defs": {"t": {"$ref": "#/$defs/t"}}, "$ref": "#/$defs/t"}


def chat(content: Any, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": MODEL, "max_tokens": 4, "messages": messages, **fields}


def with_schema(schema: Any) -> dict[str, Any]:
    named = {"name": "n", "schema": schema}
    return chat("x", response_format={"type": "json_schema", "json_schema": named})


def poison(url: str) -> list[dict[str, Any]]:
    """Chats of which each stalled or killed a worker."""
    numbers = {f"p{i}": {"type": "number", "minimum": i} for i in range(1500)}
    return [
        chat([{"type": "image_url", "image_url": {"url": url}}]),
        chat([{"type": "video_url", "video_url": {"url": url}}]),
        chat([{"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}]),
        chat([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]),
        with_schema(SELF_REFERENCE),
        with_schema({"type": "object", "properties": numbers}),
        chat("x", structured_outputs={"grammar": 'root ::= root root | "a"'}),
        chat("x", structured_outputs={"choice": ["a"]}, allowed_token_ids=[1]),
    ]


@pytest.mark.timeout(180)
async def test_they_are_refused_at_once_and_no_innocent_job_pays_for_them(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_of(redis_server, tmp_path)
    async with case(settings, tmp_path, apis=1) as pipe:
        api = pipe.running.first("api")
        with ForbiddenServer() as server:
            async with connect(api, pipe.key) as client:
                innocent = []
                for body in poison(server.url):
                    innocent += [(await pipe.submit(f"job {n}", 8))[0] for n in range(5)]
                    answer = await client.post("/v1/chat/completions", json=body)
                    assert answer.status_code == 400, answer.text
                    asked = {"url": "/v1/chat/completions", "body": body}
                    answer = await client.post("/v1/jobs", json=asked)
                    assert answer.status_code == 422, answer.text

                async def all_completed() -> bool:
                    jobs = [await pipe.store.get(job_id, "acme") for job_id in innocent]
                    return all(job.status is Status.COMPLETED for job in jobs)

                await eventually(all_completed, timeout=30)
                for job_id in innocent:
                    assert (await pipe.store.get(job_id, "acme")).attempt == 1
            assert server.untouched
        await check_nothing_left(pipe.store, MODEL)
