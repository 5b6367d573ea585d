"""Rejections: turns vLLM's errors about a request into ours, with the name of the field."""

import re
from typing import NoReturn

import pydantic
from jinja2 import TemplateError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from core.errors import ContextLengthExceeded, InvalidJob
from workers.engines.base import Generation
from workers.engines.vllm.schema_support import grammar_field

LIMITS = ("max_completion_tokens", "max_tokens")
TOO_LONG = re.compile(r"maximum (context|model) length|cannot be greater than max_model_len")


def reject(message: str, where: str | None, generation: Generation) -> NoReturn:
    """Raise InvalidJob; find the field's name in vLLM's message if it is not given.

    Args:
        message: vLLM's message, which the client sees.
        where: The field that vLLM names; None if it names none.
        generation: The request that is rejected.

    Raises:
        ContextLengthExceeded: the message says that the request is too long.
        InvalidJob: any other message.
    """
    chat = generation.endpoint == "/v1/chat/completions"
    if generation.endpoint == "/v1/embeddings":
        if TOO_LONG.search(message):
            raise ContextLengthExceeded(message, param="input")
        raise InvalidJob(message, param="dimensions" if "dimensions" in message else "input")
    if where in ("input_text", "input_tokens") or TOO_LONG.search(message):
        raise ContextLengthExceeded(message, param="messages" if chat else "prompt")
    if where is None and "grammar" in message.lower():
        where = grammar_field(generation.body)
    if where is None:
        where = _field_in(message, ChatCompletionRequest if chat else CompletionRequest)
    if where in LIMITS:
        where = next((name for name in LIMITS if generation.body.get(name) is not None), where)
    raise InvalidJob(message, param=where)


def raised_by_template(error: BaseException | None) -> bool:
    """Return whether the chat template raised the error, which vLLM wraps."""
    while error is not None and not isinstance(error, TemplateError):
        error = error.__cause__ or error.__context__
    return error is not None


def _field_in(message: str, request: type[pydantic.BaseModel]) -> str | None:
    """Return the request field that `message` mentions first."""
    found = []
    for name in request.model_fields.keys() - {"model", "user"}:
        match = re.search(rf"\b{name.replace('_', '[_ ]')}\b", message, re.IGNORECASE)
        if match:
            found.append((match.start(), -len(name), name))
    return min(found)[2] if found else None
