"""Request bodies of the dead-letter routes, and the cursor of their list."""

import re
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from core.errors import InvalidJob
from jobs.store.dead_letters import DeadLetterCursor, DeadLetterFilter
from wire.errors import InvalidCursor
from wire.schemas.jobs import INSTANT, Instant
from wire.schemas.sampling import Body
from wire.schemas.usage import Answer

CURSOR = re.compile(r"(\d{1,15})-(job_[0-9a-f]{32})")
_INSTANT: TypeAdapter[int | None] = TypeAdapter(Instant)

Text = Annotated[str, Field(min_length=1, max_length=512)]


class DeadLetterSelection(Body):
    """Which dead letters a bulk action is for; omitted fields match all."""

    account: Text | None = Field(default=None, description="for operators: jobs of this account")
    model: Text | None = Field(default=None, description="jobs of this model")
    reason: Text | None = Field(default=None, description="jobs whose last error has this code")
    failed_after: Instant = Field(default=None, description="jobs that failed then or later")
    failed_before: Instant = Field(default=None, description="jobs that failed before then")
    limit: int = Field(default=100, ge=1, le=1000, description="most jobs of one request")
    after: str | None = Field(default=None, description="`last_id` of the previous answer")
    dry_run: bool = Field(default=False, description="only count the jobs that match")

    def wanted(self) -> DeadLetterFilter:
        """Return the filter."""
        return DeadLetterFilter(
            self.account, self.model, self.reason, self.failed_after, self.failed_before
        )


class RefusedDeadLetter(Answer):
    """A job that could not be requeued or deleted; it stays in the list."""

    id: str
    code: str
    detail: str


class DeadLetterAction(Answer):
    """What a bulk action did. While `has_more` is true, repeat it with `after` = `last_id`."""

    object: str
    dry_run: bool
    matched: int
    done: int
    refused: list[RefusedDeadLetter]
    last_id: str | None
    has_more: bool


def read_cursor(text: str | None) -> DeadLetterCursor | None:
    """Read the `last_id` of a page or an answer.

    Raises:
        InvalidCursor: It is none.
    """
    if text is None:
        return None
    found = CURSOR.fullmatch(text)
    if found is None:
        raise InvalidCursor("after: expected the `last_id` of an earlier page", param="after")
    return DeadLetterCursor(int(found[1]), found[2])


def cursor_text(cursor: DeadLetterCursor | None) -> str | None:
    """Return a cursor as clients get it."""
    return None if cursor is None else f"{cursor.failed}-{cursor.job_id}"


def read_instant(name: str, text: str | None) -> int | None:
    """Read a time in a query: RFC 3339 or Unix seconds.

    Args:
        name: The parameter, for the message.
        text: Its value.

    Returns:
        Unix milliseconds.

    Raises:
        InvalidJob: It is neither.
    """
    if text is None:
        return None
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    try:
        return _INSTANT.validate_python(value)
    except ValidationError:
        raise InvalidJob(f"{name}: {INSTANT}", param=name) from None
