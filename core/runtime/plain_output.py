"""Sends what is printed to a process that makes JSON lines of it; see `json_lines.py`.

Invariant: our own lines do not take that way, so they are written even if that process is gone.
"""

import faulthandler
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

JSON_LINES = Path(__file__).with_name("json_lines.py")


def wrap_output(process: str) -> TextIO:
    """Make JSON lines of all that this process and its children print from now on.

    Args:
        process: The process, as logs name it.

    Returns:
        The standard error as it was, for the lines of our own logs.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    own = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    command = [sys.executable, "-IS", str(JSON_LINES), process]
    wrapper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=own, stderr=own)  # noqa: S603
    assert wrapper.stdin is not None
    for descriptor in (1, 2):
        os.dup2(wrapper.stdin.fileno(), descriptor)
    wrapper.stdin.close()
    faulthandler.enable(own)  # the stack of a crash goes straight to the log
    return own
