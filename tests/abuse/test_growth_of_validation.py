"""A body with very many errors costs no more than its size, and its answer stays short."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from batches.line_check import BadLine, read_request
from tests.support.steps import steps
from wire.error_bodies import from_error
from wire.errors import InvalidBody
from wire.schemas.accounts import SignIn
from wire.schemas.chat import ChatRequest
from wire.schemas.field_errors import DESCRIBED, SHOWN
from wire.schemas.jobs import BODIES
from wire.schemas.sampling import Body
from wire.schemas.validation import check

USER = {"role": "user", "content": "hi"}
#: Eight times as much may take a little more than eight times the work; quadratic work is 64 times.
GROWTH = 8
MOST = 12


def every_body(base: type[Body] = Body) -> list[type[Body]]:
    """All schemas of request bodies."""
    return [base, *(found for below in base.__subclasses__() for found in every_body(below))]


def unknown(count: int) -> dict[str, Any]:
    return {f"x{number}": 1 for number in range(count)}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER], **fields}


#: What many errors can be about, in a body with `n` of them.
MANY: dict[str, Callable[[int], dict[str, Any]]] = {
    "unknown fields": lambda n: chat(**unknown(n)),
    "unknown fields of a message": lambda n: chat(messages=[USER | unknown(n)]),
    "messages": lambda n: chat(messages=[1] * n),
    "parts of a message": lambda n: chat(messages=[{"role": "user", "content": [1] * n}]),
    "unknown fields of many messages": lambda n: chat(messages=[USER | {"x": 1}] * n),
    "members of a union": lambda n: chat(stop=[1] * n),
    "keys and values": lambda n: chat(logit_bias=dict.fromkeys(map("x{}".format, range(n)), "")),
    "a valid beginning": lambda n: chat(stop_token_ids=[1] * n + ["x"] * n),
    "tools": lambda n: chat(tools=[{"type": "function", "function": unknown(4)}] * (n // 4)),
}


def refused(schema: type[Body], body: Any) -> InvalidBody:
    with pytest.raises(InvalidBody) as caught:
        check(schema, body, strict=False)
    return caught.value


@pytest.mark.parametrize("body_of", MANY.values(), ids=MANY)
@pytest.mark.parametrize("small", [DESCRIBED // 32, 2 * DESCRIBED])
def test_work_grows_with_the_number_of_errors_only(
    body_of: Callable[[int], dict[str, Any]], small: int
) -> None:
    few, many = (steps(partial(refused, ChatRequest, body_of(n))) for n in (small, GROWTH * small))
    assert many < MOST * few


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("count", [SHOWN + 90, 20_000])
def test_ten_fields_are_named_and_the_others_counted(name: str, count: int) -> None:
    error = refused(ChatRequest, MANY[name](count))
    assert 1 <= len(error.fields) <= SHOWN
    assert len(error.fields) == SHOWN or error.fields[0].message == "too many errors to list"
    assert error.more >= count // 4 - SHOWN
    if name == "members of a union":
        assert error.fields[0].field == "stop[0]"
    answer = from_error(error).as_problem()
    assert answer.get("more_errors", 0) == error.more
    assert len(orjson.dumps(answer)) < 5_000


@pytest.mark.parametrize("schema", every_body(), ids=lambda schema: schema.__name__)
def test_every_schema_answers_any_number_of_unknown_fields_shortly(schema: type[Body]) -> None:
    for count in (100, 16_000):
        error = refused(schema, unknown(count))
        assert len(error.fields) <= SHOWN
        assert len(error.fields) + error.more >= count or error.fields[0].field == "type"


def test_the_count_is_exact_while_all_errors_are_described() -> None:
    error = refused(SignIn, {"email": "ann@example.com", "password": "x", **unknown(500)})
    assert [wrong.field for wrong in error.fields] == [f"x{number}" for number in range(SHOWN)]
    assert error.more == 490


def test_fields_that_the_body_has_are_not_called_missing() -> None:
    body = unknown(5_000) | {"email": "ann@example.com", "password": "x"}
    error = refused(SignIn, body)
    assert {wrong.message for wrong in error.fields} == {"unknown field"}
    assert error.more == 4_990


def test_a_long_name_is_cut() -> None:
    error = refused(SignIn, {"x" * 1_000_000: 1})
    assert len(orjson.dumps(from_error(error).as_problem())) < 1_500


def test_a_batch_line_with_many_errors_is_refused_in_proportion_to_its_length() -> None:
    url = "/v1/chat/completions"

    def line(count: int) -> bytes:
        body = chat(**unknown(count))
        return orjson.dumps({"custom_id": "a", "method": "POST", "url": url, "body": body})

    def read(raw: bytes) -> None:
        with pytest.raises(BadLine, match=r"^body\.x0: unknown field$"):
            read_request(raw, url, 2**21)

    assert url in BODIES
    few, many = (steps(partial(read, line(count))) for count in (100, 800))
    assert many < MOST * few
    raw = line(30_000)
    began = time.process_time()
    read(raw)
    # Quadratic work took 48 s.
    assert time.process_time() - began < 2
