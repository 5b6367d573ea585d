"""Money that a job may cost, held back until its usage is in the ledger.

A hold is made by the script that accepts the job, so budgets are exact whatever is submitted at
once. Whoever has written the usage to SQL then says what was spent (absolute and only rising) and
lets go of the hold; until then both count, so that money is never spent twice. A hold counts in
whatever month it is looked at, for nobody knows in which its job will end. Invariant: every
hold ends: with its job's usage, or by the sweep once its job is known to have left without any.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from core.redis.client import Scripts

#: Amounts here are integers of this fraction of the currency.
NANO_DIGITS = 9

#: The scope of a whole account; every other scope is a key's id.
ACCOUNT = "*"


def to_nanos(amount: Decimal, *, up: bool) -> int:
    """Return an amount in billionths, rounded against whoever spends it."""
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return int(amount.scaleb(NANO_DIGITS).to_integral_value(rounding))


def from_nanos(nanos: int) -> Decimal:
    """Return billionths as an amount."""
    return Decimal(nanos).scaleb(-NANO_DIGITS)


class BudgetLimit(NamedTuple):
    """What a scope may spend in the bucket; None where it is only watched."""

    scope: str
    nanos: int | None


@dataclass(frozen=True, slots=True)
class BudgetMonth:
    """One account's spending in one UTC month and currency."""

    account: str
    month: str
    currency: str

    @property
    def words(self) -> tuple[str, str]:
        """Return its purse, which has no month, and its month, as the scripts name them."""
        return f"{self.account}:{self.currency}", self.month


@dataclass(frozen=True, slots=True)
class BudgetReservation:
    """The most a job may cost, and whom it counts against."""

    bucket: BudgetMonth
    nanos: int
    limits: Sequence[BudgetLimit]

    def arguments(self) -> list[str | int]:
        """Return what `submit.lua` takes."""
        pairs = ((scope, "" if nanos is None else nanos) for scope, nanos in self.limits)
        return [*self.bucket.words, self.nanos, *(word for pair in pairs for word in pair)]


class SpentAmount(NamedTuple):
    """What a scope has spent in a bucket, according to the ledger."""

    bucket: BudgetMonth
    scope: str
    nanos: int


class BudgetReservations:
    """The scripts around holds."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._cursor = "0"

    async def settle(self, job_ids: Sequence[str], spent: Iterable[SpentAmount]) -> None:
        """Say what was spent, then let go of the jobs' holds; may be repeated.

        Raises:
            StoreUnavailable: it may or may not have happened.
        """
        words = [word for one in spent for word in (*one.bucket.words, one.scope, one.nanos)]
        await self._scripts.call("settle", len(job_ids), *job_ids, *words)

    async def sweep(self) -> int:
        """Look at some of the holds, and let go of those whose job left no usage behind.

        Returns how many; all holds are looked at in the course of many calls.

        Raises:
            StoreUnavailable: come back later.
        """
        cursor, released = await self._scripts.call("sweep_holds", self._cursor)
        self._cursor = cursor.decode()
        return int(released)
