"""Converts a request of Anthropic's Messages API to the chat completion that is stored and run.

Invariant: the chat says the same as the request. What it cannot say is refused by the schema.
"""

from typing import Any

import orjson

from wire.schemas.messages import (
    Base64Source,
    CustomTool,
    ImageBlock,
    InputTurn,
    MessagesInput,
    MessagesRequest,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

Message = dict[str, Any]
FORCED = {"auto": "auto", "any": "required", "none": "none"}


def chat_of(request: MessagesRequest) -> dict[str, Any]:
    """Return the body of the chat completion that a request means."""
    sampling: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "stop": request.stop_sequences,
        "stream": request.stream,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "user": request.metadata and request.metadata.user_id,
    }
    given = {name: value for name, value in sampling.items() if value is not None}
    return prompt_of(request) | given


def prompt_of(request: MessagesInput) -> dict[str, Any]:
    """Return the part of the chat completion's body that makes its prompt."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [*_system(request), *_messages(request.messages)],
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        choice = request.tool_choice
        named = {"type": "function", "function": {"name": choice.name}}
        body["tool_choice"] = FORCED.get(choice.type, named)
        if choice.disable_parallel_tool_use:
            body["parallel_tool_calls"] = False
    config = request.output_config
    body["reasoning_effort"] = config and config.effort
    if request.thinking is not None and request.thinking.type == "disabled":
        body["reasoning_effort"] = "none"
    form = request.output_format or (config and config.format)
    if form:
        schema = {"name": "output", "schema": form.schema_, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return {name: value for name, value in body.items() if value is not None}


def _system(request: MessagesInput) -> list[Message]:
    if not request.system:
        return []
    return [{"role": "system", "content": _texts(request.system)}]


def _texts(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _tool(tool: CustomTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _messages(turns: list[InputTurn]) -> list[Message]:
    messages: list[Message] = []
    for turn in turns:
        if isinstance(turn.content, str):
            messages.append({"role": turn.role, "content": turn.content})
        elif turn.role == "assistant":
            messages.append(_assistant(turn.content))
        else:
            messages += _user(turn.role, turn.content)
    return messages


def _assistant(blocks: list[Any]) -> Message:
    text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    thought = "".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock))
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": orjson.dumps(block.input).decode()},
        }
        for block in blocks
        if isinstance(block, ToolUseBlock)
    ]
    message: Message = {"role": "assistant", "content": text}
    if thought:
        message["reasoning"] = thought
    if calls:
        message["tool_calls"] = calls
    return message


def _user(role: str, blocks: list[Any]) -> list[Message]:
    """Return the results of tools as messages of their own, and the rest in its order."""
    messages: list[Message] = []
    parts: list[dict[str, Any]] = []

    def end_parts() -> None:
        if parts:
            messages.append({"role": role, "content": _simple(parts)})
            parts.clear()

    for block in blocks:
        if isinstance(block, ToolResultBlock):
            end_parts()
            messages.append(
                {
                    "role": "tool",
                    "tool_call_id": block.tool_use_id,
                    "content": _result(block),
                }
            )
        elif isinstance(block, TextBlock | ImageBlock):
            parts.append(_part(block))
    end_parts()
    return messages


def _result(block: ToolResultBlock) -> Any:
    if isinstance(block.content, str):
        return block.content
    return _simple([_part(part) for part in block.content or ()])


def _simple(parts: list[dict[str, Any]]) -> Any:
    """Return a single text as text, which every chat template can show."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return list(parts)


def _part(block: TextBlock | ImageBlock) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    source = block.source
    if isinstance(source, Base64Source):
        url = f"data:{source.media_type};base64,{source.data}"
    else:
        url = source.url
    return {"type": "image_url", "image_url": {"url": url}}
