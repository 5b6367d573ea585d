"""Checks one line of a batch the way the route checks a request.

Invariant: what passes here is refused later only for what has changed since. A complaint names the
field and what was expected, and never repeats what was sent.
"""

from typing import Any, NamedTuple

import orjson

from core.errors import ClientError
from intake.admission import check_length, check_task
from jobs.model_registry import ServedModel
from wire.errors import InvalidBody
from wire.schemas.jobs import BODIES
from wire.schemas.sampling import ModelRequest
from wire.schemas.validation import check

FIELDS = ("custom_id", "method", "url", "body")
CUSTOM_ID_CHARACTERS = 512


class LineRequest(NamedTuple):
    """A line that can become a job."""

    custom_id: str
    body: dict[str, Any]
    checked: ModelRequest


class LineError(NamedTuple):
    """What is wrong with a batch; `line` is None where it is about all of it."""

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


def read_request(raw: bytes | None, endpoint: str, longest: int) -> LineRequest:
    """Return what a line asks for.

    Raises:
        BadLine: saying why it cannot be asked.
    """
    if raw is None:
        raise BadLine("line_too_long", f"a line may have at most {longest} bytes")
    fields = _object(raw)
    custom_id = _custom_id(fields)
    if fields.get("method") != "POST":
        raise BadLine("invalid_method", "method: POST is expected", "method")
    url = fields.get("url")
    if url != endpoint:
        known = isinstance(url, str) and url in BODIES
        code = "mismatched_url" if known else "invalid_url"
        raise BadLine(code, f"url: the batch's endpoint, {endpoint}, is expected", "url")
    if unknown := sorted(set(fields) - set(FIELDS)):
        name = unknown[0][:64]
        raise BadLine("unknown_parameter", f"{name}: this field is not known here", name)
    try:
        checked = check(BODIES[endpoint], fields.get("body"), "body")
    except InvalidBody as error:
        raise BadLine("invalid_request", error.message, error.param) from None
    return LineRequest(custom_id, fields["body"], checked)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = f"this line is not JSON in UTF-8: {error.msg}, column {error.colno}"
        raise BadLine("invalid_json_line", text) from None
    if not isinstance(fields, dict):
        raise BadLine("invalid_json_line", "a JSON object is expected on each line")
    return fields


def _custom_id(fields: dict[str, Any]) -> str:
    custom_id = fields.get("custom_id")
    if custom_id is None:
        raise BadLine("missing_required_parameter", "custom_id: this is required", "custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= CUSTOM_ID_CHARACTERS:
        text = f"custom_id: a string of 1 to {CUSTOM_ID_CHARACTERS} characters is expected"
        raise BadLine("invalid_custom_id", text, "custom_id")
    return custom_id


def check_fit(request: LineRequest, url: str, model: ServedModel) -> None:
    """Refuse what the model does not do, and what cannot fit its context.

    Raises:
        BadLine: naming the field.
    """
    try:
        check_task(model, url)
        check_length(request.checked, model.max_model_len)
    except ClientError as error:
        code = error.code.replace("-", "_")
        raise BadLine(code, error.message, f"body.{error.param}") from None
