"""Converts a request of the Responses API to the chat that is stored and run.

Invariant: the stored chat is the whole conversation, so that erasing an earlier response does not
change the responses that continued from it.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from core.errors import ContextLengthExceeded, InvalidJob, JobGone, JobNotFound
from intake.responses.conversation import Message, to_messages
from intake.responses.item_references import with_referenced_items
from intake.responses.response_lookup import find_response
from intake.services import Services
from jobs.result import ResultChoice
from jobs.status import Status
from wire.schemas.response_items import AnyItem
from wire.schemas.responses import LOGPROBS, ResponseRequest
from wire.views.chat import message

#: A conversation may be so many times as long as one request's body.
MAX_GROWTH = 8

#: Fields with the same name in a chat.
SAME_NAME = (
    *("model", "temperature", "top_p", "top_logprobs", "parallel_tool_calls", "user"),
    *("prompt_cache_key", "safety_identifier", "frequency_penalty", "presence_penalty"),
    *("logit_bias", "seed", "stop", "top_k", "min_p", "repetition_penalty", "ignore_eos"),
    *("stop_token_ids", "skip_special_tokens", "include_stop_str_in_output", "cache_salt"),
    *("vllm_xargs", "include_reasoning", "chat_template_kwargs"),
)

#: Field of the chat -> field of the client's request, for errors from the engine.
FIELDS = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "top_logprobs",
    "truncate_prompt_tokens": "truncation",
}


async def as_chat(
    services: Services, account: str, request: ResponseRequest
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert a request.

    Args:
        services: What the process shares.
        account: The account that asks; the previous response must belong to it.
        request: The validated request.

    Returns:
        The body of the chat, and what `JobSpec.response` keeps.

    Raises:
        InvalidJob: the previous response, or an item that the input refers to, does not exist or
            was not completed.
        ContextLengthExceeded: the conversation is too long.
        StoreUnavailable, DatabaseUnavailable: retry later.
    """
    messages: list[Message] = []
    if request.instructions is not None:
        messages.append({"role": "system", "content": request.instructions})
    if request.previous_response_id is not None:
        messages += await _previous_messages(services, account, request.previous_response_id)
    given = request.input
    items: str | Sequence[AnyItem] = given
    if not isinstance(given, str):
        items = await with_referenced_items(services, account, given)
    messages += to_messages(items)
    if request.previous_response_id is not None or items is not given:
        param = "input" if request.previous_response_id is None else "previous_response_id"
        _check_size(messages, MAX_GROWTH * services.settings.limits.body_bytes, param)
    kept = {
        "store": request.store is not False,
        "background": bool(request.background),
        "instructed": request.instructions is not None,
        "previous_response_id": request.previous_response_id,
        "max_tool_calls": request.max_tool_calls,
    }
    return _chat(request, messages), kept


def _chat(request: ResponseRequest, messages: list[Message]) -> dict[str, Any]:
    body: dict[str, Any] = {name: getattr(request, name) for name in SAME_NAME}
    body.update(
        messages=messages,
        max_completion_tokens=request.max_output_tokens,
        reasoning_effort=request.reasoning and request.reasoning.effort,
        verbosity=request.text and request.text.verbosity,
        response_format=_format(request),
        truncate_prompt_tokens=-1 if request.truncation == "auto" else None,
    )
    if request.structured_outputs is not None:
        body["structured_outputs"] = request.structured_outputs.model_dump(
            exclude_none=True, by_alias=True
        )
    if LOGPROBS in (request.include or ()) or request.top_logprobs:
        body["logprobs"] = True
    if request.tools:
        tools = [tool.model_dump(exclude={"type"}, exclude_none=True) for tool in request.tools]
        body["tools"] = [{"type": "function", "function": tool} for tool in tools]
        body["tool_choice"] = _tool_choice(request)
    return {name: value for name, value in body.items() if value is not None}


def _tool_choice(request: ResponseRequest) -> Any:
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        return choice
    return {"type": "function", "function": {"name": choice.name}}


def _format(request: ResponseRequest) -> dict[str, Any] | None:
    form = request.text and request.text.format
    if not form or form.type == "text":
        return None
    dumped: dict[str, Any] = form.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
    if form.type == "json_schema":
        return {"type": form.type, "json_schema": dumped}
    return {"type": form.type}


async def _previous_messages(services: Services, account: str, name: str) -> list[Message]:
    """Return the conversation including a previous response, without its instructions."""
    try:
        found = await find_response(services, name, account)
        result = await found.result(services)
    except (JobNotFound, JobGone):
        text = f"previous_response_id: response {name!r} not found"
        raise InvalidJob(text, param="previous_response_id") from None
    job = found.job
    if job.status is not Status.COMPLETED:
        text = f"previous_response_id: response {name} is {job.status}, not completed"
        raise InvalidJob(text, param="previous_response_id")
    answer = message(result.choices.get(0, ResultChoice()).deltas)
    body = job.spec.body
    before = body["messages"][1:] if (job.spec.response or {})["instructed"] else body["messages"]
    return [*before, {name: value for name, value in answer.items() if value is not None}]


def _check_size(messages: list[Message], limit: int, param: str) -> None:
    """Refuse a conversation that earlier responses made longer than a request may be."""
    if len(orjson.dumps(messages)) > limit:
        text = f"{param}: the conversation is longer than {limit} bytes"
        raise ContextLengthExceeded(text, param=param)
