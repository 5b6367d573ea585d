"""Reads the Lua scripts of a package and gives their arguments names.

A package declares a `Script` per file: a NamedTuple of the arguments in order. Its Python callers
build that tuple, and the generated first lines of the script bind the same names to ARGV, so the
two sides cannot drift apart. Arguments stay strings in Lua: a number that goes into a key or a
record must not be printed as a Lua number, which may come out in exponent form.

Invariant: a script is sent with only what it uses of the libraries. Lua makes its functions anew
in every run, and all of them would be a tenth of a submit.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

BASE = Path(__file__).with_name("base.lua").read_text()

#: Runs at `maxmemory`, too: what frees memory must go on, and what was accepted must end.
ALLOW_OOM = "#!lua flags=allow-oom\n"
#: Runs with a full disk and on a replica, too.
READ_ONLY = "#!lua flags=no-writes,allow-oom\n"
#: Is refused at `maxmemory`.
NO_FLAGS = ""

WORD = re.compile(r"\w+")

Constant = str | int | tuple[str, ...]


class NoArguments(NamedTuple):
    """A script that takes no named argument."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a Lua script takes.

    Attributes:
        arguments: A NamedTuple class: each field is a local of the script, in ARGV's order.
        tables: More NamedTuple classes that follow: each is a Lua table under its name.
        flags: The first line of the script.
        repeatable: Whether a second run answers like the first, so that a call may be repeated
            on a new connection when the old one broke.
    """

    arguments: type[tuple[Any, ...]] = NoArguments
    tables: Mapping[str, type[tuple[Any, ...]]] = field(default_factory=dict)
    flags: str = ALLOW_OOM
    repeatable: bool = True

    def prelude(self, body: str) -> str:
        """Return Lua that binds the argument names; `REST` is the index of what follows them."""
        lines, at = [], 1
        names = _fields(self.arguments)
        if names:
            # One call of unpack is faster than many reads of the global ARGV.
            lines.append(f"local {', '.join(names)} = unpack(ARGV, {at}, {at + len(names) - 1})")
            at += len(names)
        for table, group in self.tables.items():
            pairs = (f"{name} = ARGV[{at + i}]" for i, name in enumerate(_fields(group)))
            lines.append(f"local {table} = {{ {', '.join(pairs)} }}")
            at += len(_fields(group))
        if re.search(r"\bREST\b", body):
            lines.append(f"local REST = {at}")
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class ScriptSources:
    """The scripts of one package as Redis gets them, by name."""

    texts: dict[str, str]
    once: frozenset[str]


def read_scripts(
    folder: Path,
    scripts: Mapping[str, Script],
    *,
    library: str = "",
    constants: Mapping[str, Constant] | None = None,
) -> ScriptSources:
    """Read every script of a table from `<folder>/<name>.lua`.

    Args:
        folder: Where the files are.
        scripts: Their arguments and flags by name.
        library: Lua definitions that the scripts share; each begins a line with `local`.
        constants: Values that Python and Lua share; a tuple becomes a set.
    """
    shared = _definitions("\n".join((*_constants(constants or {}), BASE, library)) + "\n")
    texts = {}
    for name, script in scripts.items():
        body = (folder / f"{name}.lua").read_text()
        texts[name] = script.flags + _completed(script.prelude(body) + body, shared)
    once = frozenset(name for name, script in scripts.items() if not script.repeatable)
    return ScriptSources(texts, once)


def _fields(group: type[tuple[Any, ...]]) -> tuple[str, ...]:
    names: tuple[str, ...] = group._fields  # type: ignore[attr-defined]
    return names


def _constants(constants: Mapping[str, Constant]) -> Iterator[str]:
    for name, value in constants.items():
        if isinstance(value, tuple):
            yield f"local {name} = {{ {', '.join(f'{item} = true' for item in value)} }}"
        else:
            literal = value if isinstance(value, int) else f"'{value}'"
            yield f"local {name} = {literal}"


class Definition(NamedTuple):
    """A definition of a library: the name that it gives ("" for a comment), and its words."""

    name: str
    words: frozenset[str]
    text: str


def _definitions(library: str) -> list[Definition]:
    """Split a library where a line begins with `local`."""
    found = []
    for text in re.split(r"^(?=local )", library, flags=re.MULTILINE):
        name = re.match(r"local (?:function )?(\w+)", text)
        found.append(Definition(name[1] if name else "", frozenset(WORD.findall(text)), text))
    return found


def _completed(script: str, library: Sequence[Definition]) -> str:
    """Put the definitions that a script uses before it; one may use those above it."""
    parts, words = [script], set(WORD.findall(script))
    for definition in reversed(library):
        if not definition.name or definition.name in words:
            parts.append(definition.text)
            words |= definition.words
    return "".join(reversed(parts))
