"""Limits on grammars: their size, rules, nesting, repetitions, and rules that are ambiguous.

Grammars are in GBNF (`name ::= ...`) or Lark (`name: ...`). Invariant: no check takes more than
time in proportion to the grammar's length.
"""

import re

from core.errors import InvalidJob
from core.settings.complexity import ComplexitySettings
from intake.request_limits.limit import check_limit
from intake.request_limits.patterns import check_pattern
from intake.request_limits.recursion import Rules, doubly_recursive

#: Strings, classes, patterns and comments that never end take the rest, so that each is read once.
TOKEN = re.compile(
    r"""
    (?P<comment>(?:\#|//|%\w)[^\n]*|->\s*\w+)
    | (?P<text>"(?:\\.|[^"\\\n])*"?i?|\[(?:\\(?s:.)|[^\]\\])*\]?)
    | (?P<pattern>/(?:\\.|[^/\\\n])+/?\w*)
    | (?P<count>\{\d*(?:,\d*)?\}|~\s*\d+(?:\.\.\d+)?)
    | (?P<definition>[?!]?[\w.-]+\s*(?:::=|:(?!=)))
    | (?P<name>[\w.-]+)
    | (?P<sign>[()|*+?\[\]])
    """,
    re.VERBOSE,
)


def check_grammar(field: str, grammar: str, limits: ComplexitySettings) -> None:
    """Refuse a grammar that would take too long to compile or to follow.

    Args:
        field: The client's field.
        grammar: The grammar.
        limits: What a grammar may have.

    Raises:
        InvalidJob: naming the field, the limit and what was given.
    """
    check_limit(field, len(grammar.encode()), limits.grammar_bytes, "bytes of grammar")
    reader = _GrammarReader(field, limits)
    for match in TOKEN.finditer(grammar):
        reader.take(str(match.lastgroup), match[0])
    check_limit(field, len(reader.rules), limits.grammar_rules, "rules and groups in a grammar")
    rule = doubly_recursive(reader.rules)
    if rule is not None:
        text = (
            f"the rule {rule[:64]!r} begins and ends with itself, so that text has many"
            " derivations; repeat a part of it instead, such as: list ::= item (sep item)*"
        )
        raise InvalidJob(f"{field}: {text}", param=field)


class _GrammarReader:
    """Collects the rules of a grammar; a group is a rule without a name."""

    def __init__(self, field: str, limits: ComplexitySettings) -> None:
        self.rules: Rules = {}
        self._field = field
        self._limits = limits
        self._open: list[str] = []

    def take(self, kind: str, token: str) -> None:
        """Read one token."""
        if kind == "definition":
            name = token.rstrip(":= \t\r\n").lstrip("?!")
            self._open = [name]
            self.rules.setdefault(name, []).append([])
        elif not self._open:
            return
        elif token in ("(", ")", "|"):
            self._structure(token)
        elif kind in ("name", "text", "pattern"):
            self._current.append((token if kind == "name" else None, False))
            if kind == "pattern":
                check_pattern(self._field, token.strip("/"), self._limits)
        elif kind == "count":
            self._count(token)
        elif token in ("*", "?") and self._current:
            self._current[-1] = (self._current[-1][0], True)

    @property
    def _current(self) -> list[tuple[str | None, bool]]:
        """The alternative being read, as symbols; the second says whether one may be absent."""
        return self.rules[self._open[-1]][-1]

    def _structure(self, token: str) -> None:
        if token == "(":  # noqa: S105  # not a password
            name = f"({len(self.rules)}"
            self._current.append((name, False))
            self.rules[name] = [[]]
            self._open.append(name)
            depth = len(self._open) - 1
            limit = self._limits.pattern_depth
            check_limit(self._field, depth, limit, "nested groups in a grammar")
        elif token == "|":  # noqa: S105  # not a password
            self.rules[self._open[-1]].append([])
        elif len(self._open) > 1:
            self._open.pop()

    def _count(self, token: str) -> None:
        numbers = [int(number[:12]) for number in re.findall(r"\d+", token)]
        unit = "repetitions in a grammar"
        check_limit(self._field, max(numbers, default=0), self._limits.pattern_repetitions, unit)
        if self._current and (not numbers or numbers[0] == 0):
            self._current[-1] = (self._current[-1][0], True)
