"""Reads the body of a request as a JSON object."""

from typing import Any

from starlette.requests import Request

from wire.schemas.validation import parse_object


async def read_object(request: Request) -> dict[str, Any]:
    """Read the body, which must be a JSON object.

    Raises:
        MalformedBody: The body is empty, not UTF-8, not JSON, or JSON of another type.
        BodyTooLarge: The body exceeds `limits.body_bytes`.
        BodyTimeout: The body arrives too slowly.
    """
    return parse_object(await request.body())
