"""JSON schemas of the response objects that views build without a model, for the OpenAPI document.

Tests validate real responses against them.
"""

from typing import Any

from jobs.eta import NoEta

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}


def ref(name: str) -> Schema:
    """Build a reference to one of these schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def maybe(schema: Schema) -> Schema:
    """Build a schema that also allows null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """Build the schema of a list."""
    return {"type": "array", "items": schema}


def one_of(*values: str) -> Schema:
    """Build the schema of an enum."""
    return {"type": "string", "enum": list(values)}


def record(description: str, **fields: Schema) -> Schema:
    """Build the schema of an object with at least these fields."""
    return {
        "type": "object",
        "description": description,
        "required": list(fields),
        "properties": fields,
    }


STATUS = one_of("queued", "in_progress", "completed", "failed", "cancelled", "expired")
TIER = one_of("priority", "default", "flex")
FINISH = maybe(one_of("stop", "length", "tool_calls", "content_filter"))

HEAD = {"id": TEXT, "created": COUNT, "model": TEXT, "service_tier": TIER}


def _page(item: Schema) -> Schema:
    return record(
        "a page; pass `last_id` as `after` for the next one",
        object=one_of("list"),
        data=many(item),
        first_id=maybe(TEXT),
        last_id=maybe(TEXT),
        has_more=FLAG,
    )


SCHEMAS: dict[str, Schema] = {
    "OpenAiError": record(
        "an error in OpenAI's format",
        error=record(
            "the error",
            message=TEXT,
            type=TEXT,
            param=maybe(TEXT),
            code=maybe(TEXT),
            request_id=TEXT,
        ),
    ),
    "AnthropicError": record(
        "an error in Anthropic's format",
        type=one_of("error"),
        error=record("the error", type=TEXT, message=TEXT, code=maybe(TEXT), param=maybe(TEXT)),
        request_id=maybe(TEXT),
    ),
    "Message": record(
        "a message of Anthropic's API",
        id=TEXT,
        type=one_of("message"),
        role=one_of("assistant"),
        model=TEXT,
        content=many({"type": "object", "additionalProperties": True}),
        stop_reason=maybe(TEXT),
        stop_sequence=maybe(TEXT),
        usage=record(
            "tokens as counted by the engine",
            input_tokens=COUNT,
            cache_creation_input_tokens=COUNT,
            cache_read_input_tokens=COUNT,
            output_tokens=COUNT,
        ),
    ),
    "TokenCount": record("the tokens of a message's input", input_tokens=COUNT),
    "ResponseTokenCount": record(
        "the tokens of a response's input",
        object=one_of("response.input_tokens"),
        input_tokens=COUNT,
    ),
    "Tokenized": record(
        "the tokens of a text or a chat",
        count=COUNT,
        max_model_len=COUNT,
        tokens=many(COUNT),
        token_strs=maybe(many(TEXT)),
    ),
    "Detokenized": record("the text of tokens", prompt=TEXT),
    "JobTokens": record(
        "tokens as counted by the engine",
        input_tokens=COUNT,
        cached_input_tokens=COUNT,
        output_tokens=COUNT,
    ),
    "Job": record(
        "a job; times are Unix seconds",
        id=TEXT,
        object=one_of("job"),
        status=STATUS,
        url=TEXT,
        model=TEXT,
        service_tier=TIER,
        created_at=NUMBER,
        started_at=maybe(NUMBER),
        completed_at=maybe(NUMBER),
        queue_position=maybe(COUNT),
        eta=maybe(record("estimated seconds to the end", seconds=NUMBER, low=NUMBER, high=NUMBER)),
        eta_note=maybe(one_of(*NoEta)),
        attempt=COUNT,
        queue_seconds=maybe(NUMBER),
        run_seconds=maybe(NUMBER),
        usage=ref("JobTokens"),
        cost=maybe(ref("CostObject")),
        cost_note=maybe(TEXT),
        error=maybe(ref("Problem")),
        cancel_requested_at=maybe(NUMBER),
        metadata={"type": "object", "additionalProperties": TEXT},
        retry_of=maybe(TEXT),
        trace_id=maybe(TEXT),
        on_disconnect=one_of("continue", "cancel"),
        deadline=maybe(NUMBER),
        start_by=maybe(NUMBER),
        urls={"type": "object", "additionalProperties": TEXT},
    ),
    "JobPage": _page(ref("Job")),
    "CompletionUsage": record(
        "tokens as OpenAI counts them; with `cost` if it is known",
        prompt_tokens=COUNT,
        completion_tokens=COUNT,
        total_tokens=COUNT,
        prompt_tokens_details=record("parts of the prompt tokens", cached_tokens=COUNT),
    ),
    "ChatCompletion": record(
        "a complete chat completion",
        object=one_of("chat.completion"),
        choices=many(
            record(
                "one choice",
                index=COUNT,
                message=record(
                    "the model's message", role=one_of("assistant"), content=maybe(TEXT)
                ),
                finish_reason=FINISH,
            )
        ),
        usage=ref("CompletionUsage"),
        **HEAD,
    ),
    "TextCompletion": record(
        "a complete text completion",
        object=one_of("text_completion"),
        choices=many(record("one choice", index=COUNT, text=TEXT, finish_reason=FINISH)),
        usage=ref("CompletionUsage"),
        **HEAD,
    ),
    "Generated": record(
        "generated text",
        generated_text=TEXT,
        prompt=TEXT,
        finish_reason=FINISH,
        tokens_generated=COUNT,
        latency_ms=NUMBER,
        usage=ref("CompletionUsage"),
        trace_id=maybe(TEXT),
    ),
    "Embeddings": record(
        "vectors in the order of the inputs",
        object=one_of("list"),
        data=many(
            record(
                "one vector; with encoding_format base64: little-endian 32-bit floats",
                object=one_of("embedding"),
                index=COUNT,
                embedding={"anyOf": [many(NUMBER), TEXT]},
            )
        ),
        model=TEXT,
        usage=record("tokens", prompt_tokens=COUNT, total_tokens=COUNT),
    ),
    "Model": record(
        "a served model", id=TEXT, object=one_of("model"), created=COUNT, owned_by=TEXT
    ),
    "ModelList": record("all models", object=one_of("list"), data=many(ref("Model"))),
    "Item": record("an item of a conversation", id=TEXT, type=TEXT),
    "ItemPage": _page(ref("Item")),
    "DeletedResponse": record(
        "the deleted response", id=TEXT, object=one_of("response"), deleted=FLAG
    ),
    "Response": record(
        "a response",
        id=TEXT,
        object=one_of("response"),
        created_at=NUMBER,
        completed_at=maybe(NUMBER),
        status=one_of("queued", "in_progress", "completed", "incomplete", "failed", "cancelled"),
        background=FLAG,
        error=maybe(record("why there is no output", code=TEXT, message=TEXT)),
        incomplete_details=maybe(record("why the output is incomplete", reason=TEXT)),
        instructions=maybe(TEXT),
        metadata={"type": "object", "additionalProperties": TEXT},
        model=TEXT,
        output=many(ref("Item")),
        parallel_tool_calls=FLAG,
        previous_response_id=maybe(TEXT),
        reasoning={"type": "object"},
        service_tier=TIER,
        store=FLAG,
        text={"type": "object"},
        tool_choice=ANY,
        tools=many({"type": "object"}),
        truncation=one_of("disabled"),
        usage=maybe(record("tokens", input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT)),
    ),
}
