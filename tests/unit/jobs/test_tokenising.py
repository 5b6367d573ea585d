"""Requests to tokenisers and their answers survive encoding, also between two versions."""

import orjson
import pytest

from core.errors import (
    ContextLengthExceeded,
    EngineDead,
    EngineError,
    InvalidJob,
    PipelineError,
    TokeniserUnavailable,
)
from jobs.tokenising.messages import (
    TokeniserAnswer,
    TokeniserRequest,
    decode_answer,
    encode_answer,
)

REQUEST = TokeniserRequest("tok_1", "api_1", "acme", "tokenize", {"prompt": "Gruß 🙂"})


def test_a_request_and_its_answer_come_back_as_they_were() -> None:
    assert TokeniserRequest.decode(REQUEST.encode()) == REQUEST
    for answer in (TokeniserAnswer(2, [1, 2], ["a", "b"]), TokeniserAnswer(1, text="x")):
        request_id, found = decode_answer(encode_answer("tok_1", answer))
        assert isinstance(found, TokeniserAnswer)
        assert request_id == "tok_1"
        assert (found.count, list(found.token_ids), found.token_texts, found.text) == (
            answer.count,
            list(answer.token_ids),
            answer.token_texts,
            answer.text,
        )


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = orjson.loads(REQUEST.encode()) | {"tomorrow": 1}
    assert TokeniserRequest.decode(orjson.dumps(newer)) == REQUEST
    answer = orjson.loads(encode_answer("tok_1", TokeniserAnswer(1)))
    answer["answer"]["tomorrow"] = 1
    assert decode_answer(orjson.dumps(answer)) == ("tok_1", TokeniserAnswer(1, []))
    error = orjson.loads(encode_answer("tok_1", InvalidJob("no", param="prompt")))
    error["error"]["tomorrow"] = 1
    assert isinstance(decode_answer(orjson.dumps(error))[1], InvalidJob)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (InvalidJob("no", param="prompt"), InvalidJob),
        (ContextLengthExceeded("long", param="messages"), ContextLengthExceeded),
        (EngineError("failed"), EngineError),
        (EngineDead("died"), TokeniserUnavailable),
        (PipelineError("of tomorrow"), EngineError),
    ],
)
def test_an_error_comes_back_as_what_it_means_to_a_client(
    sent: PipelineError, received: type[PipelineError]
) -> None:
    _, found = decode_answer(encode_answer("tok_1", sent))
    assert type(found) is received
    if isinstance(sent, InvalidJob):
        assert (str(found), found.as_dict()) == (str(sent), sent.as_dict())


def test_an_error_is_sent_whatever_its_text() -> None:
    _, found = decode_answer(encode_answer("tok_1", InvalidJob("no \ud800", param="prompt")))
    assert str(found) == "no ?"


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"{}", b"[]", b'"x"', b'{"id": "a"}'])
def test_what_is_no_message_is_a_known_error(raw: bytes) -> None:
    for decode in (TokeniserRequest.decode, decode_answer):
        with pytest.raises((ValueError, TypeError, KeyError)):
            decode(raw)


def test_a_body_that_cannot_be_sent_is_the_clients_fault() -> None:
    body: dict[str, object] = {}
    for _ in range(300):
        body = {"a": body}
    with pytest.raises(InvalidJob, match="nested too deeply"):
        TokeniserRequest("tok_1", "api_1", "acme", "tokenize", body).encode()
