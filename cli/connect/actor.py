"""Who runs this command, for the audit log.

Invariant: the kernel says who it is; a variable such as `LOGNAME` could name any user.
"""

import os
import pwd
import socket
from pathlib import Path

#: The user who signed in to this machine; unlike the user id it survives `su` and `sudo`.
LOGIN_UID = Path("/proc/self/loginuid")
UNSET_UID = 4_294_967_295
#: How long an actor in the audit log may be.
ACTOR_CHARACTERS = 128


def actor() -> str:
    """Return `cli:USER@HOST`; after `sudo`, `cli:USER(SIGNED_IN_USER)@HOST`."""
    user = _name(os.getuid())
    signed_in = _login_uid()
    if signed_in is not None and signed_in != os.getuid():
        user = f"{user}({_name(signed_in)})"
    return f"cli:{user}@{socket.gethostname()}"[:ACTOR_CHARACTERS]


def _login_uid() -> int | None:
    try:
        found = int(LOGIN_UID.read_text())
    except (OSError, ValueError):
        return None
    return None if found == UNSET_UID else found


def _name(uid: int) -> str:
    """Return a user's name; in a container there may be none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
