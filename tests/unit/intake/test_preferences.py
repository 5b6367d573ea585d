"""How the headers Prefer and Idempotency-Key are parsed."""

import pytest
from starlette.datastructures import Headers

from intake.preferences import Preferences, read_preferences
from wire.errors import InvalidHeader


def preferences(*headers: tuple[str, str]) -> Preferences:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return read_preferences(Headers(raw=raw), 60)


@pytest.mark.parametrize(
    ("value", "respond_async", "wait", "applied"),
    [
        ("respond-async", True, None, "respond-async"),
        ("wait=10", False, 10, "wait=10"),
        ('wait="10"', False, 10, "wait=10"),
        ("respond-async, wait=5", True, 5, "respond-async, wait=5"),
        ("wait=3600", False, 60, "wait=60"),
        ("wait=0", False, 0, "wait=0"),
        ("wait=-1", False, None, None),
        ("wait=soon, handling=lenient", False, None, None),
        ("wait=1, wait=2", False, 1, "wait=1"),
        ("event-ids, wait=2", False, 2, "wait=2, event-ids"),
    ],
)
def test_preferences_are_honoured_or_ignored(
    value: str, respond_async: bool, wait: int | None, applied: str | None
) -> None:
    found = preferences(("Prefer", value))
    assert (found.respond_async, found.wait_seconds) == (respond_async, wait)
    assert found.applied.get("Preference-Applied") == applied


def test_several_prefer_headers_are_one_list() -> None:
    found = preferences(("Prefer", "respond-async"), ("Prefer", "wait=5"))
    assert (found.respond_async, found.wait_seconds) == (True, 5)


@pytest.mark.parametrize(
    ("value", "key"),
    [("abc", "abc"), ('"abc"', "abc"), ('"a\\"b"', 'a"b'), (" x ", "x"), ('"', '"')],
)
def test_idempotency_keys_come_quoted_or_bare(value: str, key: str) -> None:
    assert preferences(("Idempotency-Key", value)).idempotency_key == key


@pytest.mark.parametrize("value", ["", '""', "x" * 256, "ü"])
def test_unusable_idempotency_keys_are_refused(value: str) -> None:
    with pytest.raises(InvalidHeader):
        preferences(("Idempotency-Key", value))
