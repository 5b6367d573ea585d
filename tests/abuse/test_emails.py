"""A person cannot sign in as another with an address that only looks like theirs."""

import unicodedata

import pytest

from accounts.errors import InvalidAccount
from accounts.users import checked_email

#: All planes that have letters, and the one of invisible tags.
CHARACTERS = [chr(code) for code in (*range(0x80, 0x20000), *range(0xE0000, 0xE0200))]
ASCII = [chr(code) for code in range(128)]


def stored(email: str) -> str | None:
    try:
        return checked_email(email)
    except InvalidAccount:
        return None


def test_no_other_character_stands_for_one_of_ascii() -> None:
    for character in CHARACTERS:
        for email in (f"{character}dmin@example.com", f"admin@example.{character}om"):
            found = stored(email)
            assert found is None or not found.isascii(), f"{character!r} gives {found}"


def test_two_characters_are_the_same_in_case_only() -> None:
    forms: dict[str, set[str]] = {}
    for character in (*ASCII, *CHARACTERS):
        found = stored(f"x{character}@example.com")
        if found is not None:
            forms.setdefault(found, set()).add(character.casefold())
    assert all(len(same) == 1 for same in forms.values())
    assert len(forms) > 50_000


def test_what_is_stored_is_stable() -> None:
    for character in (*ASCII, *CHARACTERS):
        found = stored(f"x{character}@example.com")
        assert found is None or (found.isprintable() and stored(found) == found)


@pytest.mark.parametrize(
    "email",
    [
        "ªdmin@example.com",
        "\uff41dmin@example.com",
        "admin\uff20example.com",
        "\u212aim@example.com",  # the Kelvin sign
        "o\ufb03ce@example.com",  # a ligature
        "re\u0301mi@example.com",  # an accent of its own
        "ad\u200bmin@example.com",
        "ad\u00admin@example.com",
        "ad\u202emin@example.com",
        "admin\x7f@example.com",
        "\ud800@example.com",
    ],
)
def test_an_address_that_looks_like_another_is_refused(email: str) -> None:
    assert stored(email) is None


@pytest.mark.parametrize(
    ("email", "form"),
    [
        ("  Ann@Example.COM ", "ann@example.com"),
        ("Übung@example.com", "übung@example.com"),
        (unicodedata.normalize("NFC", "rémi@example.com"), "r\u00e9mi@example.com"),
        ("straße@example.com", "straße@example.com"),
        ("иван@example.com", "иван@example.com"),
        ("用户@example.com", "用户@example.com"),
    ],
)
def test_addresses_in_any_script_are_stored_in_lower_case(email: str, form: str) -> None:
    assert stored(email) == form
