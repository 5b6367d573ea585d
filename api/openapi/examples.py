"""Examples for the OpenAPI document: valid request bodies and their responses."""

from typing import Any

QUESTION = [{"role": "user", "content": "What is a turbine?"}]
CHAT = {"model": "penstock-tiny", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
TOOL = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
}

#: Examples by schema of the body and by name.
REQUESTS: dict[str, dict[str, Any]] = {
    "ChatRequest": {
        "plain": CHAT,
        "streamed": {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
        "json": {**CHAT, "response_format": {"type": "json_object"}},
        "tools": {
            **CHAT,
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}],
            "tool_choice": "auto",
        },
    },
    "MessagesRequest": {
        "message": {
            "model": "penstock-tiny",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "What is a turbine?"}],
        }
    },
    "CountTokensRequest": {
        "message": {
            "model": "penstock-tiny",
            "messages": [{"role": "user", "content": "What is a turbine?"}],
        }
    },
    "TokenizeRequest": {
        "text": {"model": "penstock-tiny", "prompt": "The mill", "return_token_strs": True},
        "chat": {"model": "penstock-tiny", "messages": QUESTION},
    },
    "DetokenizeRequest": {"plain": {"model": "penstock-tiny", "tokens": [513, 328]}},
    "CompletionRequest": {
        "plain": {"model": "penstock-tiny", "prompt": "The mill", "max_tokens": 16},
        "tokens": {"model": "penstock-tiny", "prompt": [1, 2, 3], "max_tokens": 16, "n": 2},
    },
    "ResponseRequest": {
        "plain": {
            "model": "penstock-tiny",
            "instructions": "Be brief.",
            "input": "What is a mill?",
            "max_output_tokens": 24,
        },
        "background": {"model": "penstock-tiny", "input": "What is a mill?", "background": True},
        "items": {
            "model": "penstock-tiny",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "And a river?"}]}
            ],
        },
    },
    "EmbeddingRequest": {"plain": {"model": "an-embedding-model", "input": ["a", "b"]}},
    "GenerateRequest": {"plain": {"prompt": "The mill", "max_tokens": 32}},
    "JobRequest": {
        "chat": {"url": "/v1/chat/completions", "body": CHAT, "metadata": {"order": "17"}},
        "flex": {
            "url": "/v1/completions",
            "body": {"model": "penstock-tiny", "prompt": "The mill"},
            "service_tier": "flex",
            "on_disconnect": "continue",
        },
    },
}

NUMBER = "01a204392806f5458ded7f7903b4ba3d"
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 23,
    "total_tokens": 35,
    "prompt_tokens_details": {"cached_tokens": 0},
}
HEAD = {"created": 1795367184, "model": "penstock-tiny", "service_tier": "default"}
JOB = {
    "id": f"job_{NUMBER}",
    "object": "job",
    "status": "queued",
    "url": "/v1/chat/completions",
    "model": "penstock-tiny",
    "service_tier": "default",
    "created_at": 1795367184.395,
    "started_at": None,
    "completed_at": None,
    "queue_position": 3,
    "eta": {"seconds": 4.2, "low": 3.1, "high": 5.3},
    "eta_note": None,
    "attempt": 0,
    "weights": None,
    "queue_seconds": None,
    "run_seconds": None,
    "usage": {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0},
    "cost": None,
    "cost_note": None,
    "error": None,
    "cancel_requested_at": None,
    "metadata": {"order": "17"},
    "retry_of": None,
    "trace_id": None,
    "on_disconnect": "continue",
    "deadline": None,
    "start_by": None,
    "urls": {
        "self": f"/v1/jobs/job_{NUMBER}",
        "cancel": f"/v1/jobs/job_{NUMBER}/cancel",
        "stream": f"/v1/jobs/job_{NUMBER}/stream",
        "result": f"/v1/jobs/job_{NUMBER}/result",
    },
}
PAGE = {"object": "list", "first_id": None, "last_id": None, "has_more": False}
MODEL = {
    "id": "penstock-tiny",
    "object": "model",
    "created": 1795367159,
    "owned_by": "penstock",
    "max_model_len": 2048,
}
SAID = "A turbine is a wheel that is turned by moving water or steam."
ITEM = {
    "id": f"msg_{NUMBER}0000",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": SAID, "annotations": [], "logprobs": []}],
}
RESPONSE = {
    "id": f"resp_{NUMBER}",
    "object": "response",
    "created_at": 1795367184,
    "completed_at": 1795367185,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "penstock-tiny",
    "output": [ITEM],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "truncation": "disabled",
    "usage": {"input_tokens": 12, "output_tokens": 23, "total_tokens": 35},
}
MESSAGE = {"role": "assistant", "content": SAID, "refusal": None}
CHOICE = {"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}
CONTINUED = {"index": 0, "text": " stands at the river.", "logprobs": None, "finish_reason": "stop"}

#: Schema and example of the response, by route.
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "POST /v1/jobs": ("Job", JOB),
    "GET /v1/jobs": ("JobPage", {**PAGE, "data": [JOB]}),
    "GET /v1/jobs/{job_id}": ("Job", JOB),
    "POST /v1/jobs/{job_id}/cancel": ("Job", JOB),
    "POST /v1/jobs/{job_id}/retry": ("Job", JOB),
    "POST /v1/chat/completions": (
        "ChatCompletion",
        {
            "id": f"chatcmpl-{NUMBER}",
            "object": "chat.completion",
            "choices": [CHOICE],
            "usage": USAGE,
            **HEAD,
        },
    ),
    "POST /v1/messages": (
        "Message",
        {
            "id": f"msg_{NUMBER}",
            "type": "message",
            "role": "assistant",
            "model": "penstock-tiny",
            "content": [{"type": "text", "text": "It turns."}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 9,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 4,
            },
        },
    ),
    "POST /v1/messages/count_tokens": ("TokenCount", {"input_tokens": 12}),
    "POST /v1/responses/input_tokens": (
        "ResponseTokenCount",
        {"object": "response.input_tokens", "input_tokens": 12},
    ),
    "POST /tokenize": (
        "Tokenized",
        {
            "count": 3,
            "max_model_len": 2048,
            "tokens": [1, 513, 328],
            "token_strs": ["<s>", "The", "Ġmill"],
        },
    ),
    "POST /detokenize": ("Detokenized", {"prompt": "The mill"}),
    "POST /v1/completions": (
        "TextCompletion",
        {
            "id": f"cmpl-{NUMBER}",
            "object": "text_completion",
            "choices": [CONTINUED],
            "usage": USAGE,
            **HEAD,
        },
    ),
    "POST /v1/embeddings": (
        "Embeddings",
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.12, -0.5, 0.25]}],
            "model": "an-embedding-model",
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    ),
    "POST /v1/responses": ("Response", RESPONSE),
    "GET /v1/responses/{response_id}": ("Response", RESPONSE),
    "POST /v1/responses/{response_id}/cancel": ("Response", RESPONSE),
    "DELETE /v1/responses/{response_id}": (
        "DeletedResponse",
        {"id": f"resp_{NUMBER}", "object": "response", "deleted": True},
    ),
    "GET /v1/responses/{response_id}/input_items": ("ItemPage", {**PAGE, "data": [ITEM]}),
    "POST /v1/generate": (
        "Generated",
        {
            "generated_text": " stands at the river.",
            "prompt": "The mill",
            "finish_reason": "stop",
            "tokens_generated": 5,
            "latency_ms": 41.7,
            "usage": USAGE,
            "trace_id": None,
        },
    ),
    "GET /v1/models": ("ModelList", {"object": "list", "data": [MODEL]}),
    "GET /v1/models/{name}": ("Model", MODEL),
}

PROBLEM_EXAMPLE = {
    "type": "urn:penstock:problem:invalid-job",
    "title": "Invalid request",
    "status": 422,
    "detail": "body.temperature: Input should be less than or equal to 2",
    "code": "invalid-job",
    "param": "body.temperature",
    "errors": [
        {
            "pointer": "/body/temperature",
            "message": "Input should be less than or equal to 2",
        }
    ],
    "instance": "/v1/jobs",
    "request_id": "req_a745a58839b1c1a12",
}
OPENAI_ERROR = {
    "error": {
        "message": "temperature: Input should be less than or equal to 2",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "invalid_job",
        "request_id": "req_a745a58839b1c1a12",
    }
}
