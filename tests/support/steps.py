"""Counts the work of a function, so that a test of how work grows does not depend on the machine.

Invariant: the same call gives the same number on every machine, busy or not. Work inside C (such as
a search in a list) counts as one step; tests that need it measure time as well.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(work: Callable[[], object]) -> int:
    """Return how many bytecode instructions a call runs in this thread, with all that it calls."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
