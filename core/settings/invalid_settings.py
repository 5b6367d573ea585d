"""Turns pydantic's validation errors into lines that name the environment variable."""

from pydantic import ValidationError


class InvalidSettings(Exception):
    """A setting is wrong; `lines` has one line for each, beginning with the variable's name."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def describe(error: ValidationError, prefix: str = "") -> list[str]:
    """Return one line per wrong field, such as `PENSTOCK_LEASE__SECONDS: ...`.

    Args:
        error: What pydantic found.
        prefix: What each variable's name begins with.
    """
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = "__".join(str(part) for part in item["loc"]).upper()
        name = name if name.startswith(prefix) else prefix + name
        text = item["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {text}" if item["loc"] else text)
    return lines
