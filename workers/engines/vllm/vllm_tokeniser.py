"""Answers requests to a model's tokeniser with vLLM's own tokenisation and chat rendering.

Invariant: `count` renders a chat exactly as a job's, however long it is, and nothing of a request
reaches the caches of media that the engine's core shares.
"""

import copy
from dataclasses import replace
from typing import Any

from vllm.config import ModelConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.tokenize.protocol import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)
from vllm.exceptions import VLLMValidationError
from vllm.renderers import TokenizeParams
from vllm.renderers.online_renderer import OnlineRenderer

from core.errors import InvalidJob, PipelineError
from jobs.tokenising.messages import TokeniserAnswer, TokeniserRequest
from workers.engines.base import Endpoint, Generation
from workers.engines.helpers.remote_renderer import RemoteTokeniser
from workers.engines.vllm.rejections import rejections
from workers.engines.vllm.rendering import render_chat, run_blocking
from workers.engines.vllm.supported_media import check_media
from workers.engines.vllm.tokenisers import apart


def as_generation(request: TokeniserRequest) -> Generation:
    """Return the generation that a request would be, for limits and for errors."""
    chat = "messages" in request.body
    endpoint: Endpoint = "/v1/chat/completions" if chat else "/v1/completions"
    return Generation(f"tokeniser {request.id}", endpoint, request.body, account=request.account)


class CountedChat(ChatCompletionRequest):  # type: ignore[misc]
    """A chat that may be longer than the model's context, because it is only counted."""

    def build_tok_params(self, model_config: ModelConfig) -> TokenizeParams:
        """Return how the prompt is tokenised: without a limit, unless it is to be cut."""
        params = super().build_tok_params(model_config)
        cut = params.truncate_prompt_tokens is not None
        return params if cut else replace(params, max_total_tokens=None)


class VllmTokeniser:
    """The tokeniser of one loaded model; one thread calls it, or threads of helpers do."""

    def __init__(self, online: OnlineRenderer, model: ModelConfig) -> None:
        self._online = online
        self._model = model

    def answer(
        self, request: TokeniserRequest, remote: RemoteTokeniser | None = None
    ) -> TokeniserAnswer:
        """Answer a request.

        Args:
            request: The request.
            remote: The helper in which the tokeniser works; None: in this thread.

        Raises:
            InvalidJob: the request is wrong, or it exceeded a limit of the helper.
            EngineError: another error, which is not the client's.
        """
        try:
            with apart(remote), rejections(as_generation(request)):
                return self._answer(request, remote)
        except PipelineError as error:
            if remote is None or remote.failure is None or remote.failure is error:
                raise
            raise remote.failure from error

    def _answer(self, request: TokeniserRequest, remote: RemoteTokeniser | None) -> TokeniserAnswer:
        body = copy.deepcopy(request.body)  # vLLM's validators write to it
        wants_texts = body.get("return_token_strs")
        if request.kind == "detokenize":
            return self._detokenise(DetokenizeRequest.model_validate(body).tokens, remote)
        if request.kind == "count":
            check_media(body, self._model)
            chat = CountedChat.model_validate(body)
            inputs = render_chat(self._online, chat, skip_mm_cache=True)
            return TokeniserAnswer(sum(len(one["prompt_token_ids"]) for one in inputs))
        if request.kind != "tokenize":
            raise InvalidJob(f"this worker's tokeniser cannot {request.kind}")
        token_ids = self._chat(body) if "messages" in body else self._text(body)
        texts = self._texts(token_ids, remote) if wants_texts else None
        return TokeniserAnswer(len(token_ids), token_ids, texts)

    def _chat(self, body: dict[str, Any]) -> list[int]:
        check_media(body, self._model)
        request = TokenizeChatRequest.model_validate(body)
        online = self._online
        refused = online.validate_chat_template(
            request.chat_template, request.chat_template_kwargs, online.trust_request_chat_template
        )
        if refused is not None:
            raise VLLMValidationError(refused.error.message, parameter="chat_template_kwargs")
        _, inputs = run_blocking(
            online.preprocess_chat(
                request,
                request.messages,
                default_template=online.chat_template,
                default_template_content_format=online.chat_template_content_format,
                default_template_kwargs=online.default_chat_template_kwargs,
                tool_dicts=request.tools and [tool.model_dump() for tool in request.tools],
                skip_mm_cache=True,
            )
        )
        return _token_ids(inputs)

    def _text(self, body: dict[str, Any]) -> list[int]:
        request = TokenizeCompletionRequest.model_validate(body)
        return _token_ids(
            run_blocking(
                self._online.preprocess_completion(
                    request,
                    prompt_input=request.prompt,
                    prompt_embeds=None,
                    skip_mm_cache=True,
                )
            )
        )

    def _detokenise(self, token_ids: list[int], remote: RemoteTokeniser | None) -> TokeniserAnswer:
        renderer = self._online.renderer
        renderer.validate_token_ids(token_ids, parameter="tokens")
        if remote is not None:
            text = remote.decode(token_ids)
        else:
            text = renderer.get_tokenizer().decode(token_ids)
        return TokeniserAnswer(len(token_ids), text=text)

    def _texts(self, token_ids: list[int], remote: RemoteTokeniser | None) -> list[str]:
        if remote is not None:
            return remote.token_texts(token_ids)
        return list(self._online.renderer.get_tokenizer().convert_ids_to_tokens(token_ids))


def _token_ids(inputs: Any) -> list[int]:
    return [token for one in inputs for token in one["prompt_token_ids"]]
