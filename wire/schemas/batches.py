"""The body of a batch."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from wire.schemas.jobs import Url
from wire.schemas.sampling import Body

WINDOW = re.compile(r"([1-9]\d{0,5})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MAX_WINDOW = timedelta(days=7)


def window_length(text: str) -> timedelta:
    """Return the length of a completion window.

    Args:
        text: A number and a unit: s, m, h or d.

    Raises:
        PydanticCustomError: The text has another form, or the window is longer than 7 days.
    """
    found = WINDOW.fullmatch(text)
    length = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else MAX_WINDOW * 2
    if length > MAX_WINDOW:
        raise PydanticCustomError("window", "expected a time such as 24h, at most 7d")
    return length


def _check_window(text: str) -> str:
    window_length(text)
    return text


def _check_metadata(metadata: dict[str, str] | None) -> dict[str, str] | None:
    if metadata is None:
        return None
    sizes = (len(name) <= 64 and len(value) <= 512 for name, value in metadata.items())
    if len(metadata) > 16 or not all(sizes):
        raise PydanticCustomError(
            "metadata", "at most 16 pairs, names up to 64 and values up to 512 characters"
        )
    return metadata


class ExpiresAfter(Body):
    """When the output and error files of a batch expire."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3_600, le=2_592_000)


class BatchRequest(Body):
    """`POST /v1/batches`: run every line of an uploaded file."""

    input_file_id: str = Field(min_length=1, max_length=64)
    endpoint: Url
    completion_window: Annotated[str, AfterValidator(_check_window)]
    metadata: Annotated[dict[str, str] | None, AfterValidator(_check_metadata)] = None
    output_expires_after: ExpiresAfter | None = None
