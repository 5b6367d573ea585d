"""`.env.example` and `docs/settings.md`, made from the settings: `make settings` writes them."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from core.settings.engine import TINY_MODEL
from core.settings.tree import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
ENV_EXAMPLE = ROOT / ".env.example"
PAGE = ROOT / "docs" / "settings.md"
WIDTH = 100

ENV_HEAD = """\
# Every setting with its default. Copy to .env and uncomment what you change; variables of the
# environment take precedence over .env. Lists and objects are JSON. Made by `make settings`.
"""
PAGE_HEAD = """\
# Settings

Every process reads its settings from environment variables, and from a file `.env` in its working
directory. A variable of the environment takes precedence over `.env`. A wrong or unknown variable
stops the process at its start with exit code 2. It logs one line for each (`setting_invalid`),
which names the variable and what is expected, and never shows the value.

- The name of a variable is `PENSTOCK_`, the group, two underscores and the setting. Other pages
  write `lease.seconds` for `PENSTOCK_LEASE__SECONDS`.
- Lists and objects are JSON, such as `["10.0.0.0/8"]`. The lists of group `webhooks` may also be
  written with commas, as in earlier versions.
- A name ends in its unit (`_seconds`, `_bytes`, `_days`). "Not set" means that the variable is
  absent.
- An old name works like the new one. Setting both is an error.
- These variables have the same prefix and are no settings: `PENSTOCK_URL` and `PENSTOCK_API_KEY`
  of the commands, names that begin like `PENSTOCK_COMPOSE_TAG` (for `docker-compose.yml`), and the
  variables that Kubernetes makes for a service, such as `PENSTOCK_API_SERVICE_HOST`.

`make settings` makes this page and `.env.example` from `core/settings/`.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as both files show it."""

    variable: str
    default: str
    text: str
    old: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One group of settings."""

    name: str
    text: str
    settings: tuple[Setting, ...]


def groups(model: BaseModel | None = None, path: tuple[str, ...] = ()) -> Iterator[Group]:
    """Yield each group with its settings, in the order of the tree."""
    model = model or Settings(_env_file=None)
    fields = type(model).model_fields
    own = [name for name in fields if not isinstance(getattr(model, name), BaseModel)]
    if own:
        settings = tuple(
            _setting(fields[name], getattr(model, name), (*path, name)) for name in own
        )
        yield Group(".".join(path), " ".join((type(model).__doc__ or "").split()), settings)
    for name in fields:
        if isinstance(getattr(model, name), BaseModel):
            yield from groups(getattr(model, name), (*path, name))


def _setting(field: FieldInfo, value: Any, path: tuple[str, ...]) -> Setting:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else []
    old = tuple(_variable((*path[:-1], str(name))) for name in choices if name != path[-1])
    return Setting(_variable(path), written(value), field.description or "", old)


def _variable(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(path).upper()


def written(value: Any) -> str:
    """Return a value as a line of `.env` has it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value == str(TINY_MODEL):
        return str(TINY_MODEL.relative_to(ROOT))
    if isinstance(value, bool | dict | list):
        return json.dumps(value)
    return "" if value is None else str(value)


def env_example() -> str:
    """Return the text of `.env.example`."""
    lines = [ENV_HEAD.rstrip("\n")]
    for group in groups():
        lines += ["", *_comment(f"--- {group.name}: {group.text}")]
        for one in group.settings:
            lines += [*_comment(one.text), f"#{one.variable}={one.default}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)]


def page() -> str:
    """Return the text of `docs/settings.md`."""
    lines = [PAGE_HEAD.rstrip("\n")]
    for group in groups():
        lines += ["", f"## {group.name}", "", group.text, ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        for one in group.settings:
            default = f"`{one.default}`" if one.default else ""
            old = "".join(f" Old name: `{name}`." for name in one.old)
            lines.append(f"| `{one.variable}` | {default} | {one.text}{old} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    ENV_EXAMPLE.write_text(env_example())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
