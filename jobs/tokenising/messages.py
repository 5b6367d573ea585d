"""What an API process asks a worker's tokeniser, and the answer, as they are sent over Redis.

Invariant: an answer has either what was asked or an error, and the id of its request.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

import orjson

from core.errors import (
    ContextLengthExceeded,
    EngineDead,
    EngineError,
    InvalidJob,
    PipelineError,
    TokeniserUnavailable,
)

Kind = Literal["tokenize", "detokenize", "count"]

#: Errors of a request; another one is the worker's.
OF_REQUESTS = {error.code: error for error in (InvalidJob, ContextLengthExceeded)}
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TokeniserRequest:
    """One request to a tokeniser.

    Attributes:
        id: Unique.
        reply_to: The API process that waits for the answer.
        account: Whose request it is; accounts take turns.
        kind: `tokenize` (a text or a chat), `detokenize` (token ids), `count` (a chat completion).
        body: The body of the request: of vLLM's routes, or of a chat completion.
    """

    id: str
    reply_to: str
    account: str
    kind: Kind
    body: dict[str, Any]

    def encode(self) -> bytes:
        """Return the message.

        Raises:
            InvalidJob: the body is nested too deeply.
        """
        try:
            return orjson.dumps(self)
        except orjson.JSONEncodeError:
            raise InvalidJob("body: nested too deeply to be sent", param="body") from None

    @classmethod
    def decode(cls, raw: bytes) -> "TokeniserRequest":
        """Read a message.

        Raises:
            ValueError, TypeError, KeyError: it is no request of this version.
        """
        fields = orjson.loads(raw)
        names = ("id", "reply_to", "account", "kind", "body")
        return cls(**{name: fields[name] for name in names})


@dataclass(frozen=True, slots=True)
class TokeniserAnswer:
    """What a tokeniser answers.

    Attributes:
        count: The number of tokens.
        token_ids: The tokens; none for `count`.
        token_texts: The tokens as the tokeniser writes them, if they were asked for.
        text: The text of `detokenize`.
    """

    count: int = 0
    token_ids: Sequence[int] = ()
    token_texts: Sequence[str] | None = None
    text: str = ""


def encode_answer(request_id: str, answer: TokeniserAnswer | PipelineError) -> bytes:
    """Return the message with an answer, or with the error instead of one.

    Raises:
        TypeError: the answer has a text that is no Unicode.
    """
    if isinstance(answer, PipelineError):
        error = answer.as_dict()
        # A worker must be able to send every error, also one whose text is no Unicode.
        error["message"] = error["message"].encode(errors="replace").decode()
        return orjson.dumps({"id": request_id, "error": error})
    return orjson.dumps({"id": request_id, "answer": answer})


def decode_answer(raw: bytes) -> tuple[str, TokeniserAnswer | PipelineError]:
    """Read the message with an answer.

    Returns:
        The id of the request, and the answer or the error.

    Raises:
        ValueError, TypeError, KeyError: it is no answer of this version.
    """
    fields = orjson.loads(raw)
    if "answer" not in fields:
        return str(fields["id"]), _error(**_known(fields["error"], ("code", "message", "param")))
    names = [field.name for field in dataclass_fields(TokeniserAnswer)]
    return str(fields["id"]), TokeniserAnswer(**_known(fields["answer"], names))


def _known(fields: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Leave out the fields of a newer worker."""
    return {name: fields[name] for name in names}


def _error(code: str, message: str, param: str | None) -> PipelineError:
    if code in OF_REQUESTS:
        return OF_REQUESTS[code](message, param=param)
    if code == EngineDead.code:
        return TokeniserUnavailable("the worker stopped", retry_after_seconds=RETRY_SECONDS)
    return EngineError(message)
