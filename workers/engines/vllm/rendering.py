"""Calls vLLM's renderer from a thread without an event loop."""

from collections.abc import Coroutine
from typing import Any

import structlog
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMValidationError
from vllm.renderers import BaseRenderer
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.tool_parsers import ToolParserManager

from core.errors import EngineError
from core.settings.engine import EngineSettings
from workers.engines.vllm.tool_parsers import choose_tool_parser

log = structlog.get_logger()


class BlockingRenderer:
    """vLLM's renderer whose async methods run synchronously, in the calling thread."""

    def __init__(self, renderer: BaseRenderer) -> None:
        self._renderer = renderer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)

    async def render_chat_async(self, *args: Any, **kwargs: Any) -> Any:
        """Do `render_chat`."""
        return self._renderer.render_chat(*args, **kwargs)

    async def render_cmpl_async(self, *args: Any, **kwargs: Any) -> Any:
        """Do `render_cmpl`."""
        return self._renderer.render_cmpl(*args, **kwargs)


def find_tool_parser(
    model: Any, renderer: BaseRenderer, settings: EngineSettings, template: str | None
) -> str | None:
    """Choose the parser for tool calls, and log by what it was chosen."""
    if settings.task != "generate":
        return None
    if template is None:
        template = getattr(renderer.tokenizer, "chat_template", None)
    if isinstance(template, dict):  # a model with several templates: tools have their own
        template = template.get("tool_use") or template.get("default")
    chosen = choose_tool_parser(
        settings.tool_parser, template, model.architectures, ToolParserManager.list_registered()
    )
    log.info("tool_parser_chosen", tool_parser=chosen.name, by=chosen.source)
    return chosen.name


def render_chat(
    online: OnlineRenderer, request: ChatCompletionRequest, *, skip_mm_cache: bool = False
) -> Any:
    """Return the inputs of a chat, in a list.

    Args:
        online: The renderer.
        request: The chat.
        skip_mm_cache: Whether the inputs are not for the core, which shares the cache of media.

    Raises:
        VLLMValidationError: vLLM refuses it.
    """
    rendered = run_blocking(online.render_chat(request, skip_mm_cache=skip_mm_cache))
    if isinstance(rendered, ErrorResponse):
        raise VLLMValidationError(rendered.error.message, parameter=rendered.error.param)
    return rendered[1]


def render_prompts(online: OnlineRenderer, request: CompletionRequest) -> Any:
    """Return the inputs of each prompt; raises what `render_chat` raises."""
    rendered = run_blocking(online.render_completion(request))
    if isinstance(rendered, ErrorResponse):
        raise VLLMValidationError(rendered.error.message, parameter=rendered.error.param)
    return rendered


def run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends, without an event loop.

    Raises:
        EngineError: it suspends.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise EngineError("the renderer suspended unexpectedly")
