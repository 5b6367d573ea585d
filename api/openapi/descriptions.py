"""Describes every field, parameter and header of the OpenAPI document.

Invariant: a description in a schema or at a parameter wins over the tables here, and a field that
no table knows fails a test.
"""

from collections.abc import Iterator
from typing import Any

from api.openapi.request_descriptions import REQUEST_FIELDS

ANSWER_FIELDS = {
    "access_token": "The token to send as `Authorization: Bearer`.",
    "account": "The account.",
    "account_id": "The account.",
    "account_limits": "The limits of the account.",
    "address": "The postal address.",
    "adjustments_total": "The sum of the corrections.",
    "at": "When, as Unix seconds.",
    "attempt": "How often the job was started.",
    "attempts": "How often it was tried.",
    "billing_address": "The postal address on invoices.",
    "billing_email": "The email address for invoices.",
    "billing_name": "The name on invoices.",
    "cache_creation_input_tokens": "Always 0: writing the cache costs nothing.",
    "cache_read_input_tokens": "Tokens of the prompt that came from the cache.",
    "cached_input": "The part for cached input tokens.",
    "cached_input_tokens": "Tokens of the prompt that came from the cache.",
    "cached_tokens": "Tokens of the prompt that came from the cache.",
    "cancel_requested_at": "When a client asked to cancel the job, as Unix seconds.",
    "charged": "What is charged.",
    "choices": "The generated choices.",
    "code": "The stable name of the error.",
    "completed_at": "When it ended, as Unix seconds.",
    "completion_tokens": "Tokens of the output.",
    "cost": "What it costs.",
    "deleted_at": "When the account was deleted; its id is never used again.",
    "dry_run": "Whether the jobs were only counted.",
    "matched": "How many jobs matched.",
    "done": "How many jobs the action was carried out for.",
    "refused": "Jobs that it was refused for, with the reason.",
    "complete": "Whether everything is done; if not, repeat the request.",
    "removed": "How many things of each kind were removed.",
    "retired_by": "Who retired the model.",
    "retired_at": "When the model was retired.",
    "waiting": "Jobs that wait.",
    "running": "Jobs that run.",
    "workers": "Workers whose heartbeat is fresh.",
    "mode": "What the queue does: open, paused, draining or closed.",
    "eta_note": "Why an open job has no estimate.",
    "trace_id": "The trace in which the job was submitted.",
    "cost_note": "Why the cost is unknown.",
    "count": "The number of tokens.",
    "created": "When it was made, as Unix seconds.",
    "created_at": "When it was made, as Unix seconds.",
    "currency": "The currency, as an ISO 4217 code.",
    "deleted": "Whether it was deleted.",
    "delivered": "What the log shows as delivered.",
    "description": "What it is, for people or for the model.",
    "disabled_at": "When it was disabled, as Unix seconds.",
    "disabled_why": "Why it was disabled.",
    "due_at": "When it must be paid.",
    "email": "The email address.",
    "embedding": "The vector.",
    "error": "Why it failed; null if it did not.",
    "errors": "The first ten wrong fields, with a JSON pointer.",
    "eta": "The estimated time until the job starts, in seconds.",
    "expires_at": "When it expires, as Unix seconds.",
    "expires_in": "Seconds until the access token expires.",
    "failing_since": "Since when every delivery has failed, as Unix seconds.",
    "failure": "Why it failed.",
    "finish_reason": "Why the output ended.",
    "finished_at": "When it ended, as Unix seconds.",
    "first_id": "The id of the first item of the page.",
    "from": "The beginning of the period.",
    "generated_text": "The generated text.",
    "group_by": "What the sums are grouped by.",
    "has_more": "Whether there is another page.",
    "has_password": "Whether the user signs in with a password.",
    "high": "The upper end of the estimate.",
    "id": "The id.",
    "incomplete_details": "Why the output is incomplete.",
    "index": "The place in the list, from 0.",
    "input_tokens": "Tokens of the prompt.",
    "instance": "The path that the problem is about.",
    "invoice": "The invoice.",
    "issued_at": "When it was issued.",
    "job_id": "The id of the job.",
    "jobs": "The number of jobs.",
    "kept_in": "Where the result is kept.",
    "key": "The API key; only shown when it is made.",
    "kind": "What kind it is.",
    "last_id": "The id of the last item of the page; pass it as `after`.",
    "latency_ms": "Milliseconds from the request to the answer.",
    "ledger": "The entry of the ledger.",
    "limits": "The limits.",
    "log": "What happened, attempt by attempt.",
    "low": "The lower end of the estimate.",
    "max_model_len": "The length of the model's context, in tokens.",
    "max_queued": "The most jobs that may wait.",
    "max_running": "The most jobs that may run at once.",
    "message": "What is wrong, for people.",
    "models": "The models that the key may use; null: all.",
    "month": "The month, as `YYYY-MM`.",
    "more_errors": "How many errors there are besides those in `errors`.",
    "multiplier": "What the tier multiplies the price by.",
    "networks": "The networks that the key may be used from; null: all.",
    "next_attempt_at": "When it is tried again, as Unix seconds.",
    "number": "The number.",
    "object": "The kind of object.",
    "operator": "Whether this is the operator of the installation.",
    "output_tokens": "Tokens of the output.",
    "overlap_seconds": "Seconds for which the old key stays valid.",
    "owned_by": "Who serves the model.",
    "param": "The field, parameter or header at fault.",
    "password": "The password.",
    "payment": "How to pay.",
    "per_million": "The price of a million tokens.",
    "position": "The place on the invoice.",
    "prefix": "The first characters of the key.",
    "previous_secret_until": "Until when the old secret signs too, as Unix seconds.",
    "price": "The price that was valid.",
    "price_version": "The version of the price.",
    "price_version_id": "The version of the price.",
    "prompt_tokens": "Tokens of the prompt.",
    "prompt_tokens_details": "More about the tokens of the prompt.",
    "queue_position": "How many jobs are before this one.",
    "queue_seconds": "Seconds that the job waited.",
    "reason": "The reason.",
    "recorded_at": "When it was recorded, as Unix seconds.",
    "refresh_expires_in": "Seconds until the refresh token expires.",
    "refresh_token": "The token that gets a new access token, once.",
    "request_id": "The request, as the log names it.",
    "requests_per_minute": "The most requests a minute.",
    "retry_after": "Seconds after which to try again.",
    "retry_of": "The job that this one repeats.",
    "revoked_at": "When the key was revoked, as Unix seconds.",
    "rotated_from": "The key that this one replaces.",
    "routes": "The groups of routes that the key may use; null: all.",
    "run_seconds": "Seconds that the job ran.",
    "seconds": "The time in seconds.",
    "secret": "The secret that signs deliveries.",
    "seller": "Who sells.",
    "started_at": "When it started, as Unix seconds.",
    "state": "The state of the delivery.",
    "status": "The status.",
    "stop_reason": "Why the output ended.",
    "stop_sequence": "The stop sequence that ended the output.",
    "suspended": "Whether the account is suspended.",
    "suspended_at": "When the account was suspended, as Unix seconds.",
    "tax_id": "The tax number.",
    "tax_note": "What the invoice says about taxes.",
    "text_sha256": "The SHA-256 of the text.",
    "title": "What kind of problem it is.",
    "to": "The end of the period.",
    "token_ids_sha256": "The SHA-256 of the token ids.",
    "token_kind": "The kind of tokens.",
    "token_strs": "Each token as the tokeniser writes it; null unless it was asked for.",
    "token_type": "How to send the token.",
    "tokens": "The number of tokens, or the tokens by kind.",
    "tokens_generated": "Tokens of the output.",
    "tokens_per_minute": "The most tokens a minute.",
    "total": "The sum.",
    "total_tokens": "Tokens of prompt and output.",
    "type": "The kind.",
    "url": "The URL or the route.",
    "urls": "Where to read more about the job.",
    "usage": "Tokens as counted by the engine.",
    "usage_total": "The sum of the usage.",
    "valid_from": "From when it is valid.",
    "version": "The version.",
    "weight": "The share of the queue, relative to 1.",
}
FIELDS = REQUEST_FIELDS | ANSWER_FIELDS

PARAMETERS = {
    "account": "The account.",
    "after": "The `last_id` of the previous page.",
    "batch_id": "The batch.",
    "delivery": "The delivery.",
    "file_id": "The file.",
    "format": "The format of the answer.",
    "include_obfuscation": "Accepted, without effect.",
    "invoice": "The invoice.",
    "job_id": "The job.",
    "key_id": "The API key.",
    "last-event-id": "The id of the last event that the client has.",
    "lastEventID": "As the header `Last-Event-ID`, for clients that cannot send it.",
    "limit": "The most items of the page.",
    "month": "The month, as `YYYY-MM`.",
    "name": "The name of the model.",
    "order": "The order of the items by time.",
    "prefix": "The first characters of the key.",
    "purpose": "The purpose of the files.",
    "response_id": "The response.",
    "starting_after": "The number of the last event that the client has.",
    "state": "Only deliveries in this state.",
    "status": "Only items with this status.",
    "stream": "Whether to answer as a stream of events.",
    "user_id": "The user.",
    "webhook": "The endpoint.",
}

#: Headers of every request that submits a job.
SUBMISSION_HEADERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Idempotency-Key", "The same key and body return the same job, for a day.", {}),
    (
        "Prefer",
        "`respond-async`: answer with the job; `wait=N`: after N seconds; `event-ids`: numbered.",
        {"examples": ["respond-async", "wait=5"]},
    ),
    (
        "X-On-Disconnect",
        "What happens to the job when its last client disconnects.",
        {"enum": ["cancel", "continue"]},
    ),
)
#: Routes that submit a job.
SUBMISSIONS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/generate",
        "/v1/generate/stream",
        "/v1/jobs",
        "/v1/messages",
        "/v1/responses",
    }
)
IDEMPOTENT = SUBMISSIONS | {"/v1/batches"}


def add_descriptions(document: dict[str, Any]) -> None:
    """Describe what has no description, and declare request headers, in place."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _add_headers(method, path, operation)
            for parameter in operation.get("parameters", ()):
                if not parameter.get("description"):
                    known = PARAMETERS.get(parameter["name"]) or FIELDS.get(parameter["name"])
                    parameter.update({"description": known} if known else {})
    for properties in schema_properties(document):
        for name, field in properties.items():
            if isinstance(field, dict) and "description" not in field and name in FIELDS:
                properties[name] = {**field, "description": FIELDS[name]}


def _add_headers(method: str, path: str, operation: dict[str, Any]) -> None:
    if method != "post" or path not in IDEMPOTENT:
        return
    count = len(SUBMISSION_HEADERS) if path in SUBMISSIONS else 1
    declared = operation.setdefault("parameters", [])
    known = {parameter["name"].lower() for parameter in declared}
    declared += [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": description,
            "schema": {"type": "string", **schema},
        }
        for name, description, schema in SUBMISSION_HEADERS[:count]
        if name.lower() not in known
    ]


def schema_properties(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the `properties` of every schema of the document; examples are no schemas."""
    if isinstance(value, dict):
        found = value.get("properties")
        if isinstance(found, dict) and value.get("type", "object") == "object":
            yield found
        for name, inner in value.items():
            if name not in ("example", "examples", "default", "const", "enum"):
                yield from schema_properties(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from schema_properties(inner)
