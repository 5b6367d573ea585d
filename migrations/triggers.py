"""Triggers that refuse changes, with the same rules on PostgreSQL and SQLite.

Invariant: a protected row cannot be changed by any code or person without dropping the trigger
first.
"""

from typing import NamedTuple

from alembic import op


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

    def set(self) -> None:
        """Create the trigger."""
        text = f"{self.table} is append-only"
        if op.get_bind().dialect.name == "sqlite":
            if self.event != "TRUNCATE":
                op.execute(
                    f"CREATE TRIGGER {self.name} BEFORE {self.event} ON {self.table}"
                    f" BEGIN SELECT RAISE(ABORT, '{text}') WHERE {self.when}; END"
                )
            return
        each = "STATEMENT" if self.event == "TRUNCATE" else "ROW"
        op.execute(
            f"CREATE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {self.when} THEN RAISE EXCEPTION '{text}'"
            " USING ERRCODE = 'integrity_constraint_violation'; END IF;"
            " RETURN COALESCE(NEW, OLD); END $$"
        )
        op.execute(
            f"CREATE TRIGGER {self.name} BEFORE {self.event} ON {self.table}"
            f" FOR EACH {each} EXECUTE FUNCTION {self.name}()"
        )

    def drop(self) -> None:
        """Drop the trigger."""
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"DROP TRIGGER IF EXISTS {self.name}")
        else:
            op.execute(f"DROP FUNCTION {self.name}() CASCADE")
