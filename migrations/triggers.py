"""A trigger as each database defines it: created by a migration, compared by reconciliation.

Invariant: what a migration creates and what reconciliation expects come from the same text.
"""

from dataclasses import dataclass

from alembic import op


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger.

    `sqlite` and `postgresql` are what follows `CREATE TRIGGER name`; `sqlite` is None where SQLite
    has no such event. `function` names PostgreSQL's function, and `body` is what it runs.
    """

    table: str
    name: str
    sqlite: str | None
    postgresql: str
    function: str
    body: str

    def definition(self, *, is_sqlite: bool) -> str | None:
        """Return the whole definition: SQLite's statement; PostgreSQL's, then the body."""
        if not is_sqlite:
            return (
                f"{self._statement(self.postgresql)} EXECUTE FUNCTION {self.function}(){self.body}"
            )
        return None if self.sqlite is None else self._statement(self.sqlite)

    def create_function(self) -> None:
        """Create PostgreSQL's function; SQLite has none."""
        if not _sqlite():
            op.execute(
                f"CREATE FUNCTION {self.function}() RETURNS trigger LANGUAGE plpgsql"
                f" AS $${self.body}$$"
            )

    def create(self) -> None:
        """Create the trigger; on PostgreSQL its function must exist."""
        if not _sqlite():
            op.execute(self._on_postgresql())
        elif self.sqlite is not None:
            op.execute(self._statement(self.sqlite))

    def drop(self) -> None:
        """Drop the trigger, on PostgreSQL with its function and the others that use it."""
        if _sqlite():
            op.execute(f"DROP TRIGGER IF EXISTS {self.name}")
        else:
            op.execute(f"DROP FUNCTION IF EXISTS {self.function}() CASCADE")

    def _on_postgresql(self) -> str:
        return f"{self._statement(self.postgresql)} EXECUTE FUNCTION {self.function}()"

    def _statement(self, definition: str) -> str:
        return f"CREATE TRIGGER {self.name} {definition}"


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
