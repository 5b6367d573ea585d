"""`make lint`: find words that make a text hard to read, and name the plain alternative.

Checks comments and strings of Python, comments of Lua, and Markdown outside of code. The words
are in `scripts/words.txt`, places where one is right in `scripts/words_allowed.txt`.
"""

# ruff: noqa: INP001, T201 - it is a command

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = Path(__file__).with_name("words.txt")
ALLOWED = Path(__file__).with_name("words_allowed.txt")
SUFFIXES = {".py", ".lua", ".md"}
#: Code inside of a text.
CODE = re.compile(r"`[^`\n]*`")
#: The start of a comment in Lua.
LUA_COMMENT = re.compile(r"--(.*)$")
TEXTS = {tokenize.COMMENT, tokenize.STRING} | (
    {tokenize.FSTRING_MIDDLE} if sys.version_info >= (3, 12) else set()
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word to avoid (a regular expression) and what to write instead."""

    pattern: re.Pattern[str]
    instead: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place where a word stands."""

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        """Return it as a line that editors can open."""
        return f'{self.path}:{self.line}: "{self.found}": {self.instead}'


def words(text: str) -> tuple[Word, ...]:
    """Read lines `pattern -> alternative`; `#` starts a comment line."""
    pairs = (line.partition(" -> ") for line in text.splitlines() if line and line[0] != "#")
    return tuple(
        Word(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), instead.strip())
        for pattern, _, instead in pairs
    )


def allowed(text: str) -> tuple[tuple[str, str], ...]:
    """Read lines `path: part of the line`; `#` starts a comment line."""
    lines = (line.partition(": ") for line in text.splitlines() if line and line[0] != "#")
    return tuple((path, part.strip()) for path, _, part in lines)


def texts(path: str, content: str) -> Iterator[tuple[int, str]]:
    """Yield each line of prose in a file, with its number."""
    if path.endswith(".py"):
        yield from _python(content)
    elif path.endswith(".lua"):
        for number, line in enumerate(content.splitlines(), 1):
            if found := LUA_COMMENT.search(line):
                yield number, found[1]
    else:
        yield from _markdown(content)


def _python(content: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in TEXTS:
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, CODE.sub("", line)


def _markdown(content: str) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(content.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, CODE.sub("", line)


def check(
    path: str, content: str, avoid: Sequence[Word], justified: Sequence[tuple[str, str]] = ()
) -> Iterator[Occurrence]:
    """Yield each place of a file where a word stands that is not allowed there."""
    lines = content.splitlines()
    parts = [part for allowed_path, part in justified if allowed_path == path]
    for number, text in texts(path, content):
        if any(part in lines[number - 1] for part in parts):
            continue
        for word in avoid:
            for match in word.pattern.finditer(text):
                yield Occurrence(path, number, match[0], word.instead)


def unused(justified: Sequence[tuple[str, str]], root: Path) -> list[str]:
    """Return the allowed places that are not there any more."""
    return [
        f"{path}: {part}"
        for path, part in justified
        if not (root / path).is_file() or part not in (root / path).read_text()
    ]


def main(arguments: Sequence[str]) -> int:
    """Check the files or folders that are named, or all that Git knows; 1 if a word was found."""
    named = arguments or ["."]
    listed = subprocess.run(  # noqa: S603 - our own arguments
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *named],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    avoid, justified = words(WORDS.read_text()), allowed(ALLOWED.read_text())
    findings = [
        finding
        for path in listed
        if Path(path).suffix in SUFFIXES and (ROOT / path).is_file()
        for finding in check(path, (ROOT / path).read_text(), avoid, justified)
    ]
    for finding in findings:
        print(finding)
    stale = unused(justified, ROOT)
    for line in stale:
        print(f"{ALLOWED.name}: no such place any more: {line}")
    if findings:
        print(f"{len(findings)} places to say plainly. One that is right goes into {ALLOWED.name}.")
    return 1 if findings or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
