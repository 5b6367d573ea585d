"""`python parent_death.py PARENT SIGNAL[,UID] COMMAND...`: runs a command that dies with it.

It is a program of its own because a hook between fork and exec is unsafe in a process with threads.
Only Linux can signal a child when its parent dies; elsewhere the command runs without that, and
the process that started it has to stop it.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, number: int, uid: int | None, command: list[str]) -> None:
    """Ask for the signal at the parent's death, then replace this program by the command."""
    if uid is not None:
        os.setgroups([])
        os.setuid(uid)  # first: a change of user clears the signal below
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent died before prctl was called
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command is the caller's


if __name__ == "__main__":
    number, *uid = (int(word) for word in sys.argv[2].split(","))
    main(int(sys.argv[1]), number, uid[0] if uid else None, sys.argv[3:])
