"""Which requests are rendered by a helper, and what a client is told when a limit is exceeded."""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from core.errors import EngineDead, InvalidJob
from core.settings.engine import EngineSettings
from workers.engines.base import Generation, Resume
from workers.engines.helpers.remote_renderer import RemoteRenderer, RemoteTokeniser

COMMAND = (sys.executable, "-m", "tests.support.render_program")
LIMIT = 1000


def chat(*contents: Any, **fields: Any) -> Generation:
    messages = [{"role": "user", "content": content} for content in contents]
    return Generation("g", "/v1/chat/completions", {"messages": messages, **fields})


@pytest_asyncio.fixture
async def remote() -> AsyncIterator[RemoteRenderer]:
    settings = EngineSettings(
        render_inline_characters=LIMIT, render_seconds=0.2, render_characters=LIMIT
    )
    remote = RemoteRenderer(settings, lambda: b"{}", progress=lambda: None, command=COMMAND)
    yield remote
    await remote.close()


@pytest.mark.parametrize(
    ("generation", "large"),
    [
        (chat("Hello"), False),
        (chat("a" * 800), False),
        (chat("a" * 1200), True),
        (chat(*["a"] * 13), True),
        (chat("a", tools=[{"description": "a" * 1000}]), True),
        (chat([{"type": "text", "text": "a" * 1000}]), True),
        (chat("a", chat_template_kwargs={"enable_thinking": False, "mode": "x"}), False),
        (chat("a", chat_template_kwargs={"indent": 10}), True),
        (chat("a", chat_template_kwargs={"list": []}), True),
        (chat("a" * 1200, [{"type": "image_url", "image_url": {"url": "data:"}}]), False),
        (chat("a" * 1200, [{"image_url": {"url": "data:"}}]), False),
        (Generation("g", "/v1/completions", {"prompt": "a" * 1200}), True),
        (Generation("g", "/v1/completions", {"prompt": [5] * 300}), True),
        (Generation("g", "/v1/embeddings", {"input": ["a" * 200] * 6}), True),
        (
            Generation(
                "g", "/v1/completions", {"prompt": "a"}, {0: Resume(((5,) * 300,), "a" * 300)}
            ),
            True,
        ),
    ],
)
async def test_a_request_is_large_by_its_size(
    remote: RemoteRenderer, generation: Generation, large: bool
) -> None:
    assert remote.takes(generation) is large


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("spin", "the prompt takes more than 0.2 s to render"),
        ("hang", "the prompt takes more than 0.2 s to render"),
        ("grow", "the prompt is longer than 1000 characters when it is rendered"),
        ("fill", "the prompt takes more than 1073741824 bytes to render"),
        ("crash", "the prompt could not be rendered"),
    ],
)
async def test_a_prompt_that_exceeds_a_limit_is_the_clients_fault(
    remote: RemoteRenderer, text: str, answer: str
) -> None:
    with pytest.raises(InvalidJob, match=answer):
        await remote.run(chat("x"), lambda remote: remote.encode(text, {}))
    assert await remote.run(chat("x"), lambda remote: remote.encode("abc", {})) == [1, 2, 3]


async def test_the_cause_stays_known_if_the_error_is_turned_into_another(
    remote: RemoteRenderer,
) -> None:
    def render(remote: RemoteTokeniser) -> str:
        try:
            remote.encode("crash", {})
        except InvalidJob:
            return json.dumps(remote.failure.as_dict()) if remote.failure else ""
        return ""

    assert "could not be rendered" in (await remote.run(chat("x"), render) or "")


async def test_closed_lanes_take_no_request(remote: RemoteRenderer) -> None:
    await remote.close()
    with pytest.raises(EngineDead):
        await remote.run(chat("x"), lambda remote: remote.encode("abc", {}))
