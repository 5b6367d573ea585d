"""What clients send besides wrong bodies is read in proportion to its size: headers, cursors,
forms, files of a batch, and long valid bodies."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from accounts.caller import Caller, Role
from accounts.users import checked_email
from api.http.cursor import check_list_cursor
from api.security.client_ip import client_address
from batches.line_check import BadLine, read_request
from batches.line_reader import LineReader
from core.errors import PipelineError
from core.settings.api import LimitSettings
from core.settings.complexity import MediaSettings
from core.settings.webhooks import WebhookSettings
from files.upload import Upload
from intake.lookup.usage_query import read_usage_query
from intake.message_chat import chat_of
from intake.preferences import read_preferences
from intake.prompt_limits import check_prompt
from intake.responses.conversation import to_items, to_messages
from jobs.media import chat_parts, check_parts
from tests.support.steps import steps
from webhooks.url_rules import check_url
from wire.schemas.chat import ChatRequest
from wire.schemas.dead_letters import read_cursor, read_instant
from wire.schemas.messages import MessagesRequest
from wire.schemas.responses import ResponseRequest
from wire.schemas.validation import check_request, parse_object

GROWTH = 8
#: Quadratic work would be 64 times as much; the rest is for what is done once.
MOST = 16
SMALL = 500
TRUSTED = [ip_network("10.0.0.0/8")]
CALLER = Caller(id="key_1", account="acme", role=Role.MEMBER)
WEBHOOKS = WebhookSettings()
Work = Callable[[], object]


class OneFile:
    """Holds one object, as an object store does."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def read(self, name: str, start: int, end: int) -> bytes:
        del name
        return self.content[start:end]


def headers(name: str, value: str) -> Headers:
    return Headers(raw=[(name.encode(), value.encode())])


def request_from(hops: str) -> Request:
    raw = [(b"x-forwarded-for", hops.encode())]
    return Request({"type": "http", "headers": raw, "client": ("10.0.0.1", 1)})


async def _lines(content: bytes) -> None:
    reader = LineReader(OneFile(content), "f", len(content), 2_000_000)
    while (lines := await reader.next()) is not None:
        for line in lines:
            with suppress(BadLine):
                read_request(line.raw, "/v1/chat/completions", 2_000_000)


async def _upload(content: bytes, piece: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    upload = Upload("multipart/form-data; boundary=b", body(), 10_000_000, 1)
    async for _ in upload.pieces():
        pass


def run(making: Callable[[], Any]) -> Work:
    return lambda: asyncio.run(making())


def form(content: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    return head + content + b"\r\n--b--\r\n"


def messages_request(**fields: Any) -> Work:
    body = {"model": "m", "max_tokens": 1, **fields}
    return lambda: chat_of(check_request(MessagesRequest, body)[0])


def response(items: list[Any]) -> Work:
    def convert() -> object:
        checked, _ = check_request(ResponseRequest, {"model": "m", "input": items})
        return to_items(to_messages(checked.input), "0" * 32)

    return convert


def chat(**fields: Any) -> Work:
    return partial(check_request, ChatRequest, {"model": "m", **fields})


def media(count: int) -> Work:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = [{"role": "user", "content": [part] * count}]
    limits = MediaSettings(parts=10**9)
    return lambda: check_parts(chat_parts(body), "m", frozenset({"image"}), limits)


USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "x"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}
REASONING = {"type": "reasoning", "summary": [], "content": []}

#: What is read, from one number for its size.
READ: dict[str, Callable[[int], Work]] = {
    "Prefer": lambda n: partial(read_preferences, headers("prefer", "wait=1," * n), 60),
    "Prefer, spaces": lambda n: partial(read_preferences, headers("prefer", " " * n), 60),
    "Idempotency-Key": lambda n: partial(
        read_preferences, headers("idempotency-key", '"' + "\\a" * n + '"'), 60
    ),
    "X-Forwarded-For": lambda n: partial(
        client_address, request_from("10.0.0.1," * n + "10.0.0.2"), TRUSTED
    ),
    "cursor of a list": lambda n: partial(check_list_cursor, "job_" + "0" * n),
    "cursor of dead letters": lambda n: partial(read_cursor, "1" * n + "-job_" + "0" * n),
    "cursor of a report": lambda n: partial(
        read_usage_query, CALLER, None, None, "day", 10, "WyJh" * n, None
    ),
    "dimensions of a report": lambda n: partial(
        read_usage_query, CALLER, None, None, "day," * n, 10, None, None
    ),
    "time": lambda n: partial(read_instant, "since", "1" * n),
    "email": lambda n: partial(checked_email, "a.@" * n),
    "email with dots": lambda n: partial(checked_email, "a@" + "a." * n),
    "webhook URL": lambda n: partial(check_url, "https://" + "a." * n, WEBHOOKS, "url"),
    "JSON, nested": lambda n: partial(parse_object, b"[" * n + b"]" * n),
    "JSON, numbers": lambda n: partial(parse_object, b'{"a":' + b"1" * n + b"}"),
    "JSON, equal names": lambda n: partial(parse_object, b"{" + b'"a":1,' * n + b'"b":1}'),
    "batch, blank lines": lambda n: run(lambda: _lines(b"\n" * 40 * n)),
    "batch, short lines": lambda n: run(lambda: _lines(b"{}\n" * n)),
    "batch, one long line": lambda n: run(lambda: _lines(b"[" * 8_000 * n)),
    "form, carriage returns": lambda n: run(lambda: _upload(form(b"\r" * n), 65_536)),
    "form, boundaries that go on": lambda n: run(lambda: _upload(form(b"\r\n--" * n), 65_536)),
    "form, byte by byte": lambda n: run(lambda: _upload(form(b"x" * n), 1)),
    "form, a long header": lambda n: run(lambda: _upload(b"--b\r\nA: " + b"x" * n, 16)),
    "messages": lambda n: chat(messages=[USER] * n),
    "parts": lambda n: chat(messages=[{"role": "user", "content": [TEXT] * n}]),
    "metadata": lambda n: chat(messages=[USER], metadata={f"k{i}": 1 for i in range(n)}),
    "media": media,
    "prompt": lambda n: partial(
        check_prompt, {"messages": [[{"content": [TEXT]}]] * n}, LimitSettings(prompt_items=10**9)
    ),
    "Anthropic's messages": lambda n: messages_request(
        messages=[USER, {"role": "assistant", "content": [TEXT]}] * n
    ),
    "Anthropic's blocks": lambda n: messages_request(
        messages=[{"role": "user", "content": [TEXT] * n}]
    ),
    "items, function calls": lambda n: response([CALL] * n),
    "items, answers and reasoning": lambda n: response([OUTPUT, REASONING] * n),
}


def seconds(work: Work) -> float:
    """Return the shortest of three times; a collection of garbage is no work of this call."""
    taken = []
    gc.disable()
    try:
        for _ in range(3):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
    finally:
        gc.enable()
    return min(taken)


def tried(work: Work) -> None:
    """Refusals are fine: this is about the work until there is one."""
    with suppress(PipelineError):
        work()


@pytest.mark.parametrize("of_size", READ.values(), ids=READ)
def test_work_grows_in_proportion_to_what_is_read(of_size: Callable[[int], Work]) -> None:
    small, large = (partial(tried, of_size(size)) for size in (SMALL, GROWTH * SMALL))
    assert steps(large) < MOST * steps(small) + 10_000
    # The time shows work within C, such as copies; of short work it says nothing.
    assert seconds(large) < max(27 * seconds(small), 0.02)
