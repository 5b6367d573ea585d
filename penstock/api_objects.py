"""The objects of the API as typed, frozen dataclasses.

Invariant: `raw` holds the whole object as the server sent it, so that a field that is newer than
this client can be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

JOB_ENDINGS = frozenset({"completed", "failed", "cancelled", "expired"})
BATCH_ENDINGS = frozenset({"completed", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of a job."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as it was when the server answered.

    Attributes:
        error: The problem of a job without a result.
        cost: The charge of a job that has ended: `total`, `currency` and more; amounts are text.
        result: The OpenAI object of a completed job that was read by its id.
        eta_seconds: The estimated time until the end.
        raw: The whole object.
    """

    id: str
    status: str
    url: str
    model: str
    created_at: float
    started_at: float | None
    completed_at: float | None
    attempt: int
    queue_position: int | None
    eta_seconds: float | None
    usage: TokenUsage
    cost: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    retry_of: str | None
    raw: Mapping[str, Any]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read a job object."""
        usage = raw["usage"]
        return cls(
            id=raw["id"],
            status=raw["status"],
            url=raw["url"],
            model=raw["model"],
            created_at=raw["created_at"],
            started_at=raw.get("started_at"),
            completed_at=raw.get("completed_at"),
            attempt=raw["attempt"],
            queue_position=raw.get("queue_position"),
            eta_seconds=(raw.get("eta") or {}).get("seconds"),
            usage=TokenUsage(
                usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]
            ),
            cost=raw.get("cost"),
            error=raw.get("error"),
            result=raw.get("result"),
            metadata=raw.get("metadata") or {},
            retry_of=raw.get("retry_of"),
            raw=raw,
        )

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in JOB_ENDINGS

    @property
    def text(self) -> str:
        """The text of the first choice of a completed chat, completion or response; else empty."""
        result = self.result or {}
        if choices := result.get("choices"):
            message = choices[0].get("message")
            return (message["content"] if message else choices[0].get("text")) or ""
        parts = (part for item in result.get("output", ()) for part in item.get("content") or ())
        return "".join(part["text"] for part in parts if part.get("type") == "output_text")


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job's stream.

    Attributes:
        number: Its number in the job's log.
        type: `started`, `delta`, `restarted` (discard the text before it) or `finished`.
        data: Its fields; see "The job stream" in docs/wire-format.md.
    """

    number: int
    type: str
    data: Mapping[str, Any]

    @property
    def choice(self) -> int:
        """The number of the choice that a delta belongs to."""
        return int(self.data.get("index", 0))

    @property
    def text(self) -> str:
        """The text of a delta; empty for other events."""
        if self.type != "delta":
            return ""
        chat = self.data.get("delta")
        if chat is None or "prompt" in chat:
            return self.data.get("text") or ""
        return chat.get("content") or ""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """An uploaded file."""

    id: str
    filename: str
    bytes: int
    purpose: str
    created_at: float
    raw: Mapping[str, Any]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read a file object."""
        return cls(
            id=raw["id"],
            filename=raw["filename"],
            bytes=raw["bytes"],
            purpose=raw["purpose"],
            created_at=raw["created_at"],
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """A batch as it was when the server answered.

    Attributes:
        total: Requests of the batch; `completed` and `failed` of them have ended.
        errors: What is wrong with the lines of a batch that failed its validation.
    """

    id: str
    status: str
    endpoint: str
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    total: int
    completed: int
    failed: int
    errors: tuple[Mapping[str, Any], ...]
    raw: Mapping[str, Any]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read a batch object."""
        counts = raw["request_counts"]
        return cls(
            id=raw["id"],
            status=raw["status"],
            endpoint=raw["endpoint"],
            input_file_id=raw["input_file_id"],
            output_file_id=raw.get("output_file_id"),
            error_file_id=raw.get("error_file_id"),
            total=counts["total"],
            completed=counts["completed"],
            failed=counts["failed"],
            errors=tuple((raw.get("errors") or {}).get("data", ())),
            raw=raw,
        )

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in BATCH_ENDINGS

    @property
    def result_files(self) -> tuple[str, ...]:
        """The ids of the output file and the error file, if they exist."""
        return tuple(one for one in (self.output_file_id, self.error_file_id) if one)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one line of a batch.

    Attributes:
        status_code: The HTTP status of its answer; None if the request did not run.
        body: The answer: the OpenAI object, or the error.
        error: `code` and `message` of a request that did not run.
    """

    custom_id: str
    status_code: int | None
    body: Mapping[str, Any] | None
    error: Mapping[str, Any] | None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read a line of an output or error file."""
        response = raw.get("response") or {}
        return cls(
            custom_id=raw["custom_id"],
            status_code=response.get("status_code"),
            body=response.get("body"),
            error=raw.get("error"),
        )

    @property
    def ok(self) -> bool:
        """Whether the request has a result."""
        return self.status_code == 200
