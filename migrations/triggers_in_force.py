"""The triggers that a migrated database has: those of every migration that sets some.

Invariant: a migration that sets triggers is listed here; a test compares this with a new database.
"""

from collections.abc import Iterator
from importlib import import_module

from migrations.triggers import Trigger

#: The migrations that set triggers which no later one drops.
MIGRATIONS = (
    "2026_11_22_1404_append_only",
    "2026_11_22_1405_spending",
    "2026_11_30_0140_closed_months",
    "2026_11_30_0320_usage_weights",
    "2026_11_30_0710_usage_vectors",
)


def triggers_in_force() -> Iterator[Trigger]:
    """Yield each trigger of a database at the newest revision."""
    for name in MIGRATIONS:
        module = import_module(f"migrations.versions.{name}")
        yield from (guard.trigger for guard in getattr(module, "GUARDS", ()))
        yield from getattr(module, "TRIGGERS", ())
