"""Triggers that refuse changes, with the same rules on PostgreSQL and SQLite.

Invariant: a protected row cannot be changed by any code or person without dropping the trigger
first, and `migrations.triggers_in_force` knows what each trigger does.
"""

from typing import NamedTuple

from migrations.triggers import Trigger


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
