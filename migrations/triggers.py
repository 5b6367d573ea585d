"""Triggers as each database defines them: a migration creates them, reconciliation compares them.

Invariants: what a migration creates and what reconciliation expects come from the same text; a row
that a guard protects cannot be changed by any code or person without dropping the trigger first.
"""

from dataclasses import dataclass
from typing import NamedTuple

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


class Guard(NamedTuple):
    """Refuses an event (`UPDATE`, `UPDATE OF a, b`, `DELETE`, `INSERT`) on rows that meet `when`.

    `when` is SQL over OLD and NEW. `TRUNCATE` fires no row triggers and needs a guard of its own;
    SQLite does not have it.
    """

    table: str
    event: str
    when: str = "1 = 1"

    @property
    def name(self) -> str:
        """Return the trigger's name; there is one guard per table and event, or per its columns."""
        verb, _, columns = self.event.partition(" OF ")
        part = f"_{columns.partition(',')[0]}" if columns else ""
        return f"keep_{self.table}_{verb.lower()}{part}"

    @property
    def trigger(self) -> Trigger:
        """Return the trigger that refuses the event."""
        text = f"{self.table} is append-only"
        each = "STATEMENT" if self.event == "TRUNCATE" else "ROW"
        return Trigger(
            table=self.table,
            name=self.name,
            sqlite=None
            if self.event == "TRUNCATE"
            else f"BEFORE {self.event} ON {self.table}"
            f" BEGIN SELECT RAISE(ABORT, '{text}') WHERE {self.when}; END",
            postgresql=f"BEFORE {self.event} ON {self.table} FOR EACH {each}",
            function=self.name,
            body=f" BEGIN IF {self.when} THEN RAISE EXCEPTION '{text}'"
            " USING ERRCODE = 'integrity_constraint_violation'; END IF;"
            " RETURN COALESCE(NEW, OLD); END ",
        )

    def set(self) -> None:
        """Create the trigger."""
        self.trigger.create_function()
        self.trigger.create()

    def drop(self) -> None:
        """Drop the trigger."""
        self.trigger.drop()


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
