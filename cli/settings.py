"""Loads the settings for a command; a wrong one is a usage error that names the variable."""

from pydantic import ValidationError

from cli.failures import Usage
from jobs.settings import Settings, get_settings


def describe(error: ValidationError, prefix: str = "") -> list[str]:
    """Return one line per wrong field."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = "__".join(str(part) for part in item["loc"]).upper()
        name = name if name.startswith(prefix) else prefix + name
        text = item["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {text}" if item["loc"] else text)
    return lines


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        Usage: naming each wrong variable.
    """
    try:
        return get_settings()
    except ValidationError as error:
        raise Usage("the settings are wrong", *describe(error, "PENSTOCK_")) from None
