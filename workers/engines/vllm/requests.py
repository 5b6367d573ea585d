"""Turns an OpenAI body into requests for vLLM's core: validation, rendering, sampling parameters.

vLLM's own OpenAI layer does the work (`ChatCompletionRequest`, `CompletionRequest`,
`OnlineRenderer`, `InputProcessor`). This module calls it in order and turns its errors into
InvalidJob with the field's name. One thread calls `prepare`; threads of helpers may call
`render_apart` and `finish` at the same time, because vLLM gives each call its own tokeniser.

Invariant: the core accepts what `prepare` returns; nothing is refused later.
"""

import copy
import itertools
import time
from typing import Any

import structlog
from vllm.config import VllmConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.pooling_params import PoolingParams
from vllm.renderers import BaseRenderer
from vllm.renderers.chat_utils import load_chat_template
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.input_processor import InputProcessor

from core import metrics
from core.errors import ContextLengthExceeded, InvalidJob, PipelineError
from core.settings.engine import EngineSettings
from workers.engines.base import REFUSED_FIELDS, Generation, choice_seed
from workers.engines.helpers.remote_renderer import RemoteTokeniser
from workers.engines.vllm.choices import GenerationChoice, OutputFormat
from workers.engines.vllm.embeddings import Embedding
from workers.engines.vllm.penalties import CARRIED
from workers.engines.vllm.prepared import Prepared, Rendered, RenderedPrompt
from workers.engines.vllm.rejections import rejections
from workers.engines.vllm.rendering import (
    BlockingRenderer,
    find_tool_parser,
    render_chat,
    render_prompts,
)
from workers.engines.vllm.requested_grammars import (
    hide_structural_tag,
    read_tokenizer_info,
    take_grammar,
)
from workers.engines.vllm.schema_support import refuse_unenforced
from workers.engines.vllm.supported_media import check_media
from workers.engines.vllm.tokenisers import apart, can_work_apart, pack
from workers.engines.vllm.vllm_tokeniser import VllmTokeniser

log = structlog.get_logger()

SAMPLE = "The river runs from the hills to the sea, and 12 small boats follow it (slowly)."


class VllmFrontend:
    """The part of vLLM that runs before the core: validation, chat template, tokeniser.

    Attributes:
        renderer: vLLM's renderer.
        tokeniser: Answers requests that have no job.
    """

    def __init__(
        self, config: VllmConfig, renderer: BaseRenderer, settings: EngineSettings
    ) -> None:
        self.renderer = renderer
        self._settings = settings
        self._config = config
        self._model = config.model_config
        self._replays_grammar = settings.core == "in-process" and settings.reasoning_parser is None
        self._inputs = InputProcessor(config, renderer)
        template = load_chat_template(settings.chat_template)
        tool_parser = find_tool_parser(self._model, renderer, settings, template)
        self._online = OnlineRenderer(
            self._model,
            BlockingRenderer(renderer),
            request_logger=None,
            chat_template=template,
            chat_template_content_format="auto",
            enable_auto_tools=tool_parser is not None,
            tool_parser=tool_parser,
            reasoning_parser=settings.reasoning_parser,
        )
        self.tokeniser = VllmTokeniser(self._online, self._model)
        self._defaults = self._model.get_diff_sampling_param()
        self._serial = itertools.count(1)  # threads of helpers count, too
        self._tasks: tuple[str, ...] = ()

    def open(self, tasks: tuple[str, ...]) -> None:
        """Set the tasks of the loaded model and compile the chat template."""
        self._tasks = tasks
        self._online.warmup()

    @property
    def probe_token(self) -> int:
        """A token id that may form a prompt."""
        return self.renderer.get_bos_token_id() or self.renderer.get_eos_token_id() or 0

    @property
    def sample_tokens(self) -> list[int]:
        """Token ids of plain text, for warm-up prompts; one valid id if there is no tokeniser."""
        tokeniser = self.renderer.tokenizer
        found = [] if tokeniser is None else tokeniser.encode(SAMPLE, add_special_tokens=False)
        return list(found) or [self.probe_token]

    def read_tokenizer_info(self) -> str | None:
        """Return what grammar helpers need to know; None if the model takes no grammars."""
        if self._model.runner_type != "generate" or self.renderer.tokenizer is None:
            return None
        try:
            return read_tokenizer_info(self._config, self.renderer.tokenizer)
        except Exception:  # xgrammar knows only some tokenisers; the model serves other requests
            log.exception("grammars_unavailable")
            return None

    def pack_tokeniser(self) -> bytes | None:
        """Return what render helpers need; None if they cannot load the tokeniser."""
        tokeniser = self.renderer.tokenizer
        if tokeniser is None:
            return None
        packed = pack(tokeniser, self._online.chat_template, self._settings.render_characters)
        if packed is not None:
            can_work_apart(tokeniser)
        return packed

    def prepare(self, generation: Generation) -> Prepared:
        """Do `render` and `finish`: for the worker's own requests, whose grammars are known.

        Args:
            generation: The request.

        Returns:
            The requests for the core.
        """
        rendered = self.render(generation)
        return rendered if isinstance(rendered, Prepared) else self.finish(rendered)

    def render(self, generation: Generation) -> Prepared | Rendered:
        """Validate, render and tokenise a request.

        Args:
            generation: The request, with what earlier attempts logged.

        Returns:
            The requests for the core. If the request has a grammar, what `finish` turns into them
            once a helper has compiled it.

        Raises:
            InvalidJob: the request is wrong; `param` names the field.
            ContextLengthExceeded: the prompt and the tokens to generate exceed the context.
            EngineError: another error, which is not the client's.
        """
        began = time.monotonic()
        with rejections(generation):
            prepared = self._prepare(generation)
        self._observe(began, "engine")
        return prepared

    def render_apart(self, generation: Generation, remote: RemoteTokeniser) -> Prepared | Rendered:
        """Do `render`, with the chat template and the tokeniser in a helper.

        Args:
            generation: The request.
            remote: The helper.

        Returns:
            What `render` returns.

        Raises:
            InvalidJob: the request is wrong, or it exceeded a limit of the helper.
            EngineError: another error, which is not the client's.
        """
        began = time.monotonic()
        try:
            with apart(remote), rejections(generation):
                prepared = self._prepare(generation)
        except PipelineError as error:
            if remote.failure is None or remote.failure is error:
                raise
            raise remote.failure from error
        self._observe(began, "helper")
        return prepared

    def _observe(self, began: float, where: str) -> None:
        seconds = time.monotonic() - began
        metrics.render_seconds.labels(self._settings.served_name, where).observe(seconds)

    def finish(self, rendered: Rendered) -> Prepared:
        """Make the requests for the core from a rendered one; raises what `render` raises."""
        with rejections(rendered.generation):
            return self._finish(rendered)

    def _prepare(self, generation: Generation) -> Prepared | Rendered:
        if generation.endpoint == "/v1/embeddings":
            return self._prepare_embedding(generation)
        for name in REFUSED_FIELDS:
            if generation.body.get(name):
                raise InvalidJob(f"{name} is not supported", param=name)
        check_media(generation.body, self._model)
        body = copy.deepcopy(generation.body)  # vLLM's validators write to it
        chat = generation.endpoint == "/v1/chat/completions"
        if chat and body.get("max_completion_tokens") is None:
            body["max_completion_tokens"] = body.pop("max_tokens", None)  # its deprecated name
        if chat and body.get("echo"):
            raise InvalidJob("echo is not supported", param="echo")
        tag = hide_structural_tag(self._config, body)
        request = (ChatCompletionRequest if chat else CompletionRequest).model_validate(body)
        if (best_of := body.get("best_of")) is not None and best_of != (request.n or 1):
            raise InvalidJob("best_of must equal n", param="best_of")
        limit = body.get("max_completion_tokens" if chat else "max_tokens")
        source, prompts = None, []
        for inputs in (render_chat if chat else render_prompts)(self._online, request):
            params = self._sampling_params(request, inputs, limit)
            refuse_unenforced(params, body, tag)
            taken = take_grammar(params, self._config, generation.body, tag)
            source, wanted = taken if taken is not None else (None, None)
            prompts.append(RenderedPrompt(inputs, params, wanted))
        rendered = Rendered(generation, request, source, prompts)
        return self._finish(rendered) if source is None else rendered

    def _finish(self, rendered: Rendered) -> Prepared:
        generation, request = rendered.generation, rendered.request
        choices: list[GenerationChoice] = []
        tokens, count, restarted = 0, request.n or 1, False
        for number, (inputs, params, wanted) in enumerate(rendered.prompts):
            core = self._inputs.process_inputs(generation.id, inputs, params, self._tasks)
            if wanted is not None:
                core.sampling_params.structured_outputs = wanted
            output_format = OutputFormat(self._online, self._model, request, core, inputs)
            output_format.prepare_reasoning(core)
            restarted = self._restarts(generation, core.sampling_params)
            own = range(number * count, (number + 1) * count)
            choices += self._split(generation, core, output_format, own, restarted=restarted)
            tokens += len(core.prompt_token_ids)
        prompts = len(rendered.prompts)
        return Prepared(tokens, count * prompts, prompts, restarted, choices)

    def _prepare_embedding(self, generation: Generation) -> Prepared:
        """Make one core request per input, except for inputs that finished earlier."""
        body = generation.body
        request = CompletionRequest(prompt=body["input"], max_tokens=1)
        rendered = render_prompts(self._online, request)
        choices = []
        for index, inputs in enumerate(rendered):
            length = len(inputs["prompt_token_ids"])
            if length > self._model.max_model_len:
                raise ContextLengthExceeded(
                    f"input {index} has {length} tokens; the model accepts"
                    f" {self._model.max_model_len}",
                    param="input",
                )
            if index in generation.finished:
                continue
            name = f"{generation.id}/{index}/{next(self._serial)}"
            params = PoolingParams(task="embed", dimensions=body.get("dimensions"))
            core = self._inputs.process_inputs(name, inputs, params, self._tasks)
            core.request_id = core.external_req_id = name
            choices.append(Embedding(generation.id, index, core))
        lengths = tuple(len(inputs["prompt_token_ids"]) for inputs in rendered)
        count = len(rendered)
        return Prepared(sum(lengths), count, count, False, choices, lengths)

    def _sampling_params(self, request: Any, inputs: Any, given: int | None) -> SamplingParams:
        """Return vLLM's parameters; the output may at most fill the context."""
        chat = isinstance(request, ChatCompletionRequest)
        length, context = len(inputs["prompt_token_ids"]), self._model.max_model_len
        if length >= context:
            raise ContextLengthExceeded(
                f"{length} prompt tokens leave no room for output in the model's context "
                f"of {context} tokens",
                param="messages" if chat else "prompt",
            )
        wanted = given if chat else request.max_tokens  # vLLM has a default for completions
        most = get_max_tokens(context, wanted, length, self._defaults)
        params = request.to_sampling_params(most, self._defaults)
        params.n = 1  # each choice is a request of its own
        if params.extra_args is not None:
            params.extra_args.pop(CARRIED, None)  # clients must not set it
        return params

    def _split(
        self,
        generation: Generation,
        core: EngineCoreRequest,
        output_format: OutputFormat,
        indexes: range,
        *,
        restarted: bool,
    ) -> list[GenerationChoice]:
        """Make one choice per index, each with its own seed and its logged tokens."""
        choices = []
        for index in indexes:
            if index in generation.finished and not restarted:
                continue
            own = copy.copy(core)
            own.request_id = own.external_req_id = f"{generation.id}/{index}/{next(self._serial)}"
            own.sampling_params = copy.copy(core.sampling_params)
            if own.sampling_params.seed is not None:
                number = index - indexes.start
                own.sampling_params.seed = choice_seed(own.sampling_params.seed, number)
            choice = GenerationChoice(generation.id, index, own, output_format)
            resume = generation.resume.get(index)
            if resume is not None and not restarted:
                choice.replay([token for chunk in resume.chunks for token in chunk], resume.text)
            choices.append(choice)
        return choices

    def _restarts(self, generation: Generation, params: SamplingParams) -> bool:
        """Return whether logged tokens exist and cannot be continued."""
        continued = any(resume.count for resume in generation.resume.values())
        return continued and not self._can_continue(params)

    def _can_continue(self, params: SamplingParams) -> bool:
        """Return whether all state that depends on earlier output can be rebuilt from token ids."""
        if params.repetition_detection is not None or params.thinking_token_budget is not None:
            return False
        if any(len(word) > 1 for word in params.bad_words_token_ids or ()):
            return False
        if params.structured_outputs is not None and not self._replays_grammar:
            return False
        penalised = params.presence_penalty or params.frequency_penalty
        return not penalised or bool(self._model.logits_processors)
