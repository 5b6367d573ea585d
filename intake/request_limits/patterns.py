"""Limits on regular expressions: their length, nesting and counted repetitions.

Invariant: one pass over the pattern, whatever it contains; it is never compiled here.
"""

import re

from core.settings.complexity import ComplexitySettings
from intake.request_limits.limit import check_limit

#: One unit of a pattern that is not a group; a class or escape that never ends takes the rest.
ATOM = re.compile(r"\\(?s:.)|\[\^?\]?(?:\\(?s:.)|[^\]\\])*\]?")
COUNT = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
#: Larger sizes are all the same: far beyond every limit.
HUGE = 10**12


def check_pattern(field: str, pattern: str, limits: ComplexitySettings) -> None:
    """Refuse a regular expression that would take too long to compile.

    Args:
        field: The client's field.
        pattern: The regular expression.
        limits: What a pattern may have.

    Raises:
        InvalidJob: naming the field, the limit and what was given.
    """
    check_limit(field, len(pattern), limits.pattern_characters, "characters of pattern")
    scan = PatternScan(pattern)
    check_limit(field, scan.depth, limits.pattern_depth, "nested groups in a pattern")
    unit = "characters in a pattern whose counted repetitions are written out"
    check_limit(field, scan.size, limits.pattern_repetitions, unit)


class PatternScan:
    """What one pass over a pattern finds.

    Attributes:
        depth: How deep its groups are nested.
        size: How many atoms it has once `{m,n}` is written out.
    """

    def __init__(self, pattern: str) -> None:
        self.depth = 0
        self._sizes = [0]  # of the open groups; the first is the whole pattern
        self._last = 0  # of the atom before, which a repetition multiplies
        at = 0
        while at < len(pattern):
            at = self._take(pattern, at)
        while len(self._sizes) > 1:
            self._close()
        self.size = min(self._sizes[0] + self._last, HUGE)

    def _take(self, pattern: str, at: int) -> int:
        """Read one item and return where the next begins."""
        character = pattern[at]
        if character == "(":
            self._add(0)
            self._sizes.append(0)
            self.depth = max(self.depth, len(self._sizes) - 1)
        elif character == ")":
            self._close()
        elif character in "|*+?^$":
            pass
        elif character == "{" and (count := COUNT.match(pattern, at)):
            self._last = min(self._last * _times(count), HUGE)
            return count.end()
        elif atom := ATOM.match(pattern, at):
            self._add(1)
            return atom.end()
        else:
            self._add(1)
        return at + 1

    def _add(self, size: int) -> None:
        self._sizes[-1] = min(self._sizes[-1] + self._last, HUGE)
        self._last = size

    def _close(self) -> None:
        if len(self._sizes) > 1:
            self._last = self._sizes.pop() + self._last


def _times(count: re.Match[str]) -> int:
    """Return the most of `{m}`, `{m,}` and `{m,n}`."""
    return max(_number(count[1]), _number(count[3] or ""), 1)


def _number(digits: str) -> int:
    return HUGE if len(digits) > 12 else int(digits or 0)
