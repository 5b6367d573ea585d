"""Turns pydantic's validation errors into lines that name the environment variable.

Invariant: a line says what is expected, and never what was given, because that may be a secret.
"""

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

#: Kinds of pydantic's errors whose own text does not say how a variable is written.
EXPECTED = {
    "list_type": 'expected a JSON list such as ["A", "B"]',
    "tuple_type": 'expected a JSON list such as ["A", "B"]',
    "dict_type": 'expected a JSON object such as {"NAME": "VALUE"}',
    "model_type": "expected a JSON object, or a variable for each of its settings",
    "model_attributes_type": "expected a JSON object, or a variable for each of its settings",
    "missing": "expected a value; it is missing",
}
#: A setting in the text of a rule between settings: `lease.seconds`.
SETTING = re.compile(r"\b[a-z_]+(?:\.[a-z_]+)+\b")


class InvalidSettings(Exception):
    """A setting is wrong; `lines` has one line for each, beginning with the variable's name."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def describe(
    error: ValidationError, prefix: str = "", known: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return one line per wrong field, such as `PENSTOCK_LEASE__SECONDS: expected ...`.

    Args:
        error: What pydantic found.
        prefix: What each variable's name begins with.
        known: Every variable that is read, with its present name, which differs for an old name.
    """
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = "__".join(str(part) for part in item["loc"]).upper()
        name = name if name.startswith(prefix) else prefix + name
        lines.append(_line(name, item, prefix, known))
    return lines


def _line(name: str, item: Any, prefix: str, known: Mapping[str, str]) -> str:
    text = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"{name}: {_unknown(name, known)}"
    if item["type"] == "value_error" and SETTING.match(text):  # a rule between settings
        return SETTING.sub(lambda found: prefix + found[0].replace(".", "__").upper(), text)
    if item["type"] == "too_short":
        unit = "items" if item["ctx"]["field_type"] in ("List", "Tuple") else "characters"
        return f"{name}: expected at least {item['ctx']['min_length']} {unit}"
    text = EXPECTED.get(item["type"], text)
    return f"{name}: {re.sub('^(Input|String|Value) should ', 'expected to ', text)}".replace(
        "expected to be ", "expected "
    )


def _unknown(name: str, known: Mapping[str, str]) -> str:
    """Return why a variable is not read, and which one was probably meant."""
    if known.get(name, name) != name:
        return f"the old name of {known[name]}, which is set too; expected only one of them"
    for other in known:
        if name.replace("_", "") == other.replace("_", ""):
            return f"no setting has this name; expected {other}, with two underscores"
    close = difflib.get_close_matches(name, known, 1, 0.85)
    hint = f"expected {close[0]}?" if close else "docs/settings.md lists all settings"
    return f"no setting has this name; {hint}"
