"""Rejections: turns vLLM's errors about a request into ours, with the name of the field."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pydantic
import structlog
from jinja2 import TemplateError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve import create_error_response

from core.errors import ContextLengthExceeded, EngineError, InvalidJob, PipelineError
from workers.engines.base import Generation
from workers.engines.media_parts import media_fields
from workers.engines.vllm.schema_support import grammar_field

log = structlog.get_logger()

LIMITS = ("max_completion_tokens", "max_tokens")
#: vLLM's message names flags of its own server, which do not exist here.
NO_TOOLS = (
    "this model cannot call tools: no parser for its tool calls is known; the operator can set"
    " PENSTOCK_ENGINE__TOOL_PARSER on its workers"
)
NO_REASONING = (
    "no parser for this model's reasoning is known; the operator can set"
    " PENSTOCK_ENGINE__REASONING_PARSER on its workers"
)
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
    if "--tool-call-parser" in message:
        raise InvalidJob(NO_TOOLS, param="tool_choice")
    if "--reasoning-parser" in message:
        raise InvalidJob(NO_REASONING, param=where or "thinking_token_budget")
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


@contextmanager
def rejections(generation: Generation) -> Iterator[None]:
    """Turn vLLM's errors about a request into ours."""
    try:
        yield
    except PipelineError:
        raise
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = str(first["loc"][0]) if first["loc"] else None
        reject(str(first["msg"]), where, generation)
    except Exception as error:
        message = str(error.args[0]) if error.args else type(error).__name__
        answer = create_error_response(error).error
        media = next(media_fields(generation.body), None)
        if media is not None and answer.code >= 500:
            log.warning("media_unreadable", generation=generation.id, exc_info=error)
            reject(f"{media}: the media cannot be read", media, generation)
        if answer.code >= 500 and not isinstance(error, NotImplementedError):
            log.exception("render_failed", generation=generation.id)
            raise EngineError("the prompt could not be rendered") from error
        where = "messages" if raised_by_template(error) else answer.param
        reject(message, where, generation)


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
