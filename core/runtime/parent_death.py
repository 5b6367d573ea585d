"""`python parent_death.py PARENT SIGNAL[,UID] COMMAND...`: a command that dies with its parent.

A program of its own instead of a hook between fork and exec, which is unsafe beside threads.
Only Linux sends such a signal. Elsewhere the command just runs, and its starter stops it.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, number: int, uid: int | None, command: list[str]) -> None:
    """Tie the knot, then replace this program."""
    if uid is not None:
        os.setgroups([])
        os.setuid(uid)  # before the knot: a change of user undoes it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the knot was tied
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    number, *uid = (int(word) for word in sys.argv[2].split(","))
    main(int(sys.argv[1]), number, uid[0] if uid else None, sys.argv[3:])
