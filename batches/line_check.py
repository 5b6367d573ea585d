"""Checks one line of a batch as the route checks a request.

Invariant: a line that passes is refused later only because something has changed since. An error
names the field and what was expected, and never repeats what the client sent.
"""

from typing import Any, NamedTuple

import orjson

from core.errors import ClientError
from core.settings.tree import Settings
from intake.prompt_limits import check_prompt
from intake.request_checks import check_length, check_task
from intake.request_limits.complexity import check_complexity
from intake.request_limits.media_types import check_media
from jobs.model_registry import ServedModel
from wire.errors import InvalidBody
from wire.schemas.jobs import BODIES
from wire.schemas.sampling import ModelRequest
from wire.schemas.validation import check_request

FIELDS = ("custom_id", "method", "url", "body")
CUSTOM_ID_CHARACTERS = 512


class LineRequest(NamedTuple):
    """A line that can become a job: its body as the client sent it, and as the schema read it."""

    custom_id: str
    body: dict[str, Any]
    checked: ModelRequest


class LineError(NamedTuple):
    """An error of a batch; `line` counts from 1 and is None if it is about the whole batch."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return OpenAI's shape."""
        return self._asdict()


class BadLine(Exception):
    """A line that cannot become a job."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def read_request(raw: bytes | None, endpoint: str, max_bytes: int) -> LineRequest:
    """Parse and check a line.

    Args:
        raw: The line; None if it is longer than `max_bytes`.
        endpoint: The batch's endpoint, which the line's `url` must be.
        max_bytes: How long a line may be.

    Raises:
        BadLine: the line is invalid.
    """
    if raw is None:
        raise BadLine("line_too_long", f"The line is longer than {max_bytes} bytes")
    fields = _object(raw)
    custom_id = _custom_id(fields)
    if fields.get("method") != "POST":
        raise BadLine("invalid_method", "method: expected POST", "method")
    url = fields.get("url")
    if url != endpoint:
        known = isinstance(url, str) and url in BODIES
        code = "mismatched_url" if known else "invalid_url"
        raise BadLine(code, f"url: expected the batch's endpoint, {endpoint}", "url")
    if unknown := fields.keys() - FIELDS:
        name = min(unknown)[:64]
        raise BadLine("unknown_parameter", f"{name}: unknown field", name)
    try:
        checked, body = check_request(BODIES[endpoint], fields.get("body"), "body")
    except InvalidBody as error:
        raise BadLine("invalid_request", error.message, error.param) from None
    return LineRequest(custom_id, body, checked)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = f"The line is not valid JSON in UTF-8: {error.msg}, column {error.colno}"
        raise BadLine("invalid_json_line", text) from None
    if not isinstance(fields, dict):
        raise BadLine("invalid_json_line", "Expected a JSON object on each line")
    return fields


def _custom_id(fields: dict[str, Any]) -> str:
    custom_id = fields.get("custom_id")
    if custom_id is None:
        text = "custom_id: this field is required"
        raise BadLine("missing_required_parameter", text, "custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= CUSTOM_ID_CHARACTERS:
        text = f"custom_id: expected a string of 1 to {CUSTOM_ID_CHARACTERS} characters"
        raise BadLine("invalid_custom_id", text, "custom_id")
    return custom_id


def check_fit(request: LineRequest, url: str, model: ServedModel, settings: Settings) -> None:
    """Refuse a request that the model cannot serve, that does not fit its context or the limits.

    Raises:
        BadLine: naming the field.
    """
    try:
        check_task(model, url)
        check_length(request.checked, model.max_model_len)
        check_prompt(request.body, settings.limits)
        fetch = settings.media_fetch
        check_media(request.checked, request.body, model, settings.media, fetch)
        check_complexity(request.checked, settings.complexity)
    except ClientError as error:
        code = error.code.replace("-", "_")
        raise BadLine(code, error.message, f"body.{error.param}") from None
