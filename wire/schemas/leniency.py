"""Which shapes of a request are accepted without effect, and the body that is stored for it.

Clients of other servers send fields that change nothing here, and numbers as text. Invariant: an
ignored field never reaches an engine, and a number is stored as the number that was validated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, Field

SCALARS = (bool, int, float)


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Marks a field that is accepted and dropped."""

    why: str


def _ignored(why: str) -> Any:
    return Annotated[Any, NoEffect(why), Field(description=f"Accepted, without effect: {why}.")]


CacheControl = _ignored("the engine manages its prompt cache itself")
ClientsOwn = _ignored("it is for the client that made it")
ReasoningCopy = _ignored("reasoning is read from `reasoning` or `reasoning_content`")
BeamSearchOnly = _ignored("it only concerns beam search, which is not available")
Priority = _ignored("jobs are ordered by `service_tier` and fair shares")
OwnIds = _ignored("the server names jobs; send the header `X-Request-ID` for the logs")
Session = _ignored("every request is independent of earlier ones")
RenderOnly = _ignored("it only concerns routes that render a prompt, which are not available")
Grouping = _ignored("the server groups the events of a stream itself")
DeferLoading = _ignored("every tool is given to the model")
MediaSize = _ignored("it only concerns media; a request with media is refused")
MediaCache = _ignored("media is cached by its content")


@cache
def ignored_fields(schema: type[BaseModel]) -> Mapping[str, str]:
    """Return the fields of a schema that have no effect, with the reason."""
    return {
        name: mark.why
        for name, field in schema.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, NoEffect)
    }


@cache
def _harmless_fields(schema: type[BaseModel]) -> frozenset[str]:
    return frozenset(ignored_fields(schema)) | frozenset(getattr(schema, "unsupported_fields", ()))


def effective_body(checked: BaseModel, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a validated body that has an effect, with numbers as numbers.

    Args:
        checked: The body as its schema read it.
        body: The body as the client sent it.

    Returns:
        The body to store.
    """
    dropped = _harmless_fields(type(checked))
    known = checked.__dict__
    return {
        name: _effective(known.get(name), value)
        for name, value in body.items()
        if name not in dropped
    }


def _effective(checked: Any, value: Any) -> Any:
    if isinstance(checked, BaseModel):
        return effective_body(checked, value) if isinstance(value, dict) else value
    if isinstance(checked, list) and isinstance(value, list) and checked:
        if isinstance(checked[0], BaseModel | bool | int | float):
            return [_effective(*pair) for pair in zip(checked, value, strict=True)]
        return value
    if not isinstance(checked, SCALARS) or (type(value) is int and isinstance(checked, float)):
        return value
    return checked
