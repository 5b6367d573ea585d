"""One choice of one generation: turns the core's tokens into what a client reads.

vLLM's classes do the work: detokeniser, stop strings, log probabilities, tool and reasoning
parsers. A `GenerationChoice` feeds them, first with the logged tokens when a job is continued.

Invariant: after `replay` these classes are in the state they had when the last logged token was
generated, so that only new text is reported and held-back text is reported once.
"""

import copy
from collections.abc import Sequence
from typing import Any

import structlog
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionNamedToolChoiceParam,
    ChatCompletionRequest,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.serve.utils.tool_calls_utils import maybe_filter_parallel_tool_calls
from vllm.logprobs import Logprob
from vllm.parser import Parser
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.engine.output_processor import OutputProcessor

from core.errors import EngineError
from workers.engines.base import Output
from workers.engines.vllm.penalties import carry_penalties

log = structlog.get_logger()

LOGPROB_CONTEXT = 4  # previous tokens that vLLM reads to join a split character


def _bare(serving: type[Any]) -> Any:
    """Return a serving object whose methods for log probabilities can be used."""
    made = object.__new__(serving)
    made.return_tokens_as_token_ids = False
    return made


class OutputFormat:
    """The output format that all choices of one request share."""

    def __init__(
        self, online: Any, model: Any, request: Any, core: EngineCoreRequest, inputs: Any
    ) -> None:
        """Read the format from a request.

        Args:
            online: vLLM's renderer.
            model: The model's configuration.
            request: The request as vLLM's OpenAI layer reads it.
            core: The same for vLLM's core.
            inputs: One rendered prompt; with `echo` it has its text.
        """
        chat = isinstance(request, ChatCompletionRequest)
        self.request = request
        self.prompt_ids: list[int] = core.prompt_token_ids
        self.echo: str | None = None if chat or not request.echo else inputs["prompt"]
        self.echo_only = self.echo is not None and request.max_tokens == 0
        self.tokenizer = online.renderer.get_tokenizer()
        self.chat = chat
        self.logprobs = bool(request.logprobs) if chat else request.logprobs is not None
        self.named_tool = chat and isinstance(
            request.tool_choice, ChatCompletionNamedToolChoiceParam
        )
        self._model = model
        self._parser_class = online.parser if chat else None
        self._serving = _bare(OpenAIServingChat if chat else OpenAIServingCompletion)
        if self._parser_class is not None:
            self._template_kwargs = online.effective_chat_template_kwargs(request)
            if not request.include_reasoning:
                self.logprobs = False  # log probabilities would show the hidden reasoning

    def make_parser(self) -> Parser | None:
        """Return a new tool and reasoning parser; None if the engine has none."""
        if self._parser_class is None:
            return None
        return self._parser_class(
            self.tokenizer,
            self.request.tools,
            chat_template_kwargs=self._template_kwargs,
            model_config=self._model,
        )

    def prepare_reasoning(self, core: EngineCoreRequest) -> None:
        """Tell the core where reasoning ends, because a grammar starts there."""
        if not self.chat:
            return
        parser = self.make_parser()
        core.reasoning_ended = self.request.resolve_reasoning_ended(parser, self.prompt_ids)
        if parser is not None and parser.reasoning_parser is not None:
            core.reasoning_parser_kwargs = {"chat_template_kwargs": self._template_kwargs}

    def write_logprobs(self, token_ids: Sequence[int], top: Any, offset: int) -> Any:
        """Return the OpenAI logprobs object of these tokens."""
        request = self.request
        if self.chat:
            return self._serving._create_chat_logprobs(  # noqa: SLF001
                token_ids,
                top,
                self.tokenizer,
                request.top_logprobs,
                request.logprob_token_ids,
                request.return_tokens_as_token_ids,
            )
        return self._serving._create_completion_logprobs(  # noqa: SLF001
            token_ids,
            top,
            request.logprobs,
            self.tokenizer,
            request.logprob_token_ids,
            offset,
            request.return_tokens_as_token_ids,
        )


class GenerationChoice:
    """One sequence in the core and the state that turns its tokens into text.

    Attributes:
        request: The request for the core.
        resumed: The logged tokens that it continues.
        finished: The last output, if the log already shows the end.
    """

    def __init__(
        self,
        generation_id: str,
        index: int,
        request: EngineCoreRequest,
        output_format: OutputFormat,
    ) -> None:
        self.generation_id = generation_id
        self.index = index
        self.request = request
        self.resumed: list[int] = []
        self.finished: Output | None = None
        self.detokenizer = IncrementalDetokenizer.from_new_request(output_format.tokenizer, request)
        self.routed_experts_chunks: list[Any] = []  # vLLM's trimming reads it
        self._format = output_format
        self._logprobs = LogprobsProcessor.from_new_request(output_format.tokenizer, request)
        self._parser = output_format.make_parser()
        self._tools_streamed = False
        self._echoes = output_format.echo is not None
        self._text_offset = len(output_format.echo or "")

    def take(self, made: EngineCoreOutput) -> Output:
        """Return the output of one step; a finish reason or an error in it ends the choice."""
        reason, stop = made.finish_reason, made.stop_reason
        if reason in (FinishReason.ERROR, FinishReason.ABORT):
            return self.failure("the engine core aborted it", None)
        before = self.detokenizer.num_output_tokens()
        try:
            matched = self.detokenizer.update(made.new_token_ids, reason == FinishReason.STOP)
            if matched is not None:
                reason, stop = FinishReason.STOP, matched
                OutputProcessor._trim_surplus_tokens(self, made, before)  # noqa: SLF001
            self._logprobs.update_from_output(made)
            prompt = self._take_prompt() if self._echoes else None
            output = self._write(made.new_token_ids, reason, stop)
            if prompt is not None:
                output.delta = {"prompt": prompt}
            if self._format.echo_only:
                output.token_ids, output.text, output.logprobs = (), "", None
                output.finish_reason, output.stop_reason = str(FinishReason.LENGTH), None
        except Exception as error:  # noqa: BLE001  # a parser's error fails this job only
            return self.failure("its output could not be read", error)
        if made.prefill_stats is not None:
            cached = made.prefill_stats.num_cached_tokens
            output.cached_input_tokens = min(cached, len(self._format.prompt_ids))
        return output

    def failure(self, why: str, cause: Exception | None) -> Output:
        """Return the output that ends this choice with an error; the cause is only logged."""
        log.error("generation_failed", generation=self.generation_id, why=why, exc_info=cause)
        error = EngineError(f"generation failed: {why}")
        return Output(self.generation_id, self.index, (), "", error=error)

    def replay(self, token_ids: list[int], text: str) -> None:
        """Restore the state at the end of the log and let the core continue from there.

        Tokens are fed one by one, as the core generated them. If the log already shows the end,
        `finished` is set to an output with the text that is not in the log yet.
        """
        if not token_ids:
            return
        self.resumed = token_ids
        self._echoes = False  # the log has it
        params = self.request.sampling_params
        stops = {params.eos_token_id, *params.stop_token_ids}
        reason, stop = None, None
        for count, token in enumerate(token_ids, start=1):
            ended = token in stops and count > params.min_tokens
            stop = self.detokenizer.update([token], ended)
            if ended or stop is not None:
                reason = FinishReason.STOP
                break
            self._parse(self.detokenizer.get_next_output_text(False, True), [token], False)
        if reason is None and len(token_ids) >= params.max_tokens:
            reason = FinishReason.LENGTH
        if reason is None:
            self._continue(token_ids)
            return
        if self.detokenizer.output_text.startswith(text):
            seen = max(len(text), self.detokenizer._last_output_text_offset)  # noqa: SLF001
            self.detokenizer._last_output_text_offset = seen  # noqa: SLF001
        self.finished = self._write([], reason, stop)

    def _continue(self, token_ids: list[int]) -> None:
        """Change the request to the remaining tokens: logged ones in the prompt, lower limits."""
        count = len(token_ids)
        params = self.request.sampling_params = copy.copy(self.request.sampling_params)
        params.max_tokens -= count
        params.min_tokens = max(0, params.min_tokens - count)
        params.prompt_logprobs = None
        carry_penalties(params, count)
        self.request.prompt_token_ids = self._format.prompt_ids + token_ids
        self._text_offset += len(self.detokenizer.output_text)
        if self._logprobs.logprobs is not None:
            context = token_ids[-LOGPROB_CONTEXT:]
            self._logprobs.logprobs.extend({token: Logprob(0.0)} for token in context)

    def _write(
        self, token_ids: list[int], reason: FinishReason | None, stop: str | int | None
    ) -> Output:
        finished = reason is not None
        text = self.detokenizer.get_next_output_text(finished, True)
        delta = self._parse(text, token_ids, finished)
        output = Output(self.generation_id, self.index, token_ids, text, delta)
        if self._format.logprobs and token_ids:
            output.logprobs = self._read_logprobs(token_ids)
        if finished:
            output.finish_reason, output.stop_reason = str(reason), stop
            called = self._tools_streamed and not self._format.named_tool
            if called and reason == FinishReason.STOP:
                output.finish_reason = "tool_calls"
        return output

    def _take_prompt(self) -> dict[str, Any]:
        """Return the prompt to show, which comes with the first output."""
        self._echoes = False
        form, top = self._format, self._logprobs.prompt_logprobs
        if not form.logprobs or top is None:
            return {"text": form.echo, "logprobs": None}
        written = form.write_logprobs(form.prompt_ids, top, 0)
        self._text_offset = written.text_offset[-1] + len(written.tokens[-1])
        return {"text": form.echo, "logprobs": written.model_dump()}

    def _parse(self, text: str, token_ids: list[int], finished: bool) -> dict[str, Any] | None:
        """Return the chat delta if it differs from plain content; {} shows nothing."""
        if self._parser is None:
            return None
        message = self._parser.parse_delta(
            delta_text=text,
            delta_token_ids=token_ids,
            request=self._format.request,
            prompt_token_ids=self._format.prompt_ids,
            finished=finished,
        )
        if message is None:
            return {} if text else None
        message = maybe_filter_parallel_tool_calls(message, self._format.request)
        self._tools_streamed |= bool(message.tool_calls)
        delta: dict[str, Any] = message.model_dump(exclude_none=True)
        return (
            None if delta.get("content", "") == text and not delta.keys() - {"content"} else delta
        )

    def _read_logprobs(self, token_ids: list[int]) -> dict[str, Any]:
        top = self._logprobs.logprobs[-len(token_ids) :]
        written = self._format.write_logprobs(token_ids, top, self._text_offset)
        if not self._format.chat:
            self._text_offset = written.text_offset[-1] + len(written.tokens[-1])
        logprobs: dict[str, Any] = written.model_dump()
        return logprobs
