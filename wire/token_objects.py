"""Answers of tokenisers, as the routes of vLLM, Anthropic and OpenAI show them."""

from typing import Any

from jobs.tokenising.messages import TokeniserAnswer


def tokenize_object(answer: TokeniserAnswer, max_model_len: int) -> dict[str, Any]:
    """Build the answer of `/tokenize`."""
    return {
        "count": answer.count,
        "max_model_len": max_model_len,
        "tokens": answer.token_ids,
        "token_strs": answer.token_texts,
    }


def detokenize_object(answer: TokeniserAnswer) -> dict[str, Any]:
    """Build the answer of `/detokenize`."""
    return {"prompt": answer.text}


def token_count_object(answer: TokeniserAnswer) -> dict[str, Any]:
    """Build the answer of `/v1/messages/count_tokens`."""
    return {"input_tokens": answer.count}


def response_tokens_object(answer: TokeniserAnswer) -> dict[str, Any]:
    """Build the answer of `/v1/responses/input_tokens`."""
    return {"object": "response.input_tokens", **token_count_object(answer)}
