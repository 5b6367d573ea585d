"""`python leash.py PARENT SIGNAL COMMAND...`: become a command that dies with its parent.

A program of its own instead of a hook between fork and exec, which is unsafe beside threads.
Only Linux has such a leash; elsewhere the command just runs, and `up` alone stops it.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, number: int, command: list[str]) -> None:
    """Tie the knot, then replace this program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the knot was tied
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
