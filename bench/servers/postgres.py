"""A PostgreSQL of the measurement's own: that of TEST_DATABASE_URL, else one brought by pip.

Invariant: durable as in production (fsync on), on a unix socket, gone when the block ends.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bench.servers.local_postgres import LocalPostgres


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL for the length of a block; yields SQLAlchemy's URL of an empty database."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    server = LocalPostgres()
    try:
        server.start()
        yield server.url()
    finally:
        server.remove()
