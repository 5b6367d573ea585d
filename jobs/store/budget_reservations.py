"""Budget reservations: money that a job may cost, held back until its usage is in the ledger.

The script that accepts a job makes its reservation, so budgets are exact under concurrent
submits. The process that wrote the usage to SQL then reports what was spent (absolute, only
rising) and releases the reservation; until then both count, so money is never spent twice. A
reservation counts in every month, because the month in which its job will end is unknown.
Invariant: every reservation is released: with its job's usage, or by the sweep once the job is
known to have gone without any.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from core.redis.scripts import Scripts
from jobs.store.script_args import SettleArgs, SweepReservationsArgs
from jobs.store.script_rows import SweptReservationsRow

#: Amounts here are integers of this fraction of the currency.
NANO_DIGITS = 9

#: The scope of a whole account; every other scope is a key's id.
ACCOUNT = "*"


def to_nanos(amount: Decimal, *, up: bool) -> int:
    """Return an amount in billionths; `up` rounds up (what a job costs), else down (limits)."""
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return int(amount.scaleb(NANO_DIGITS).to_integral_value(rounding))


def from_nanos(nanos: int) -> Decimal:
    """Return billionths as an amount."""
    return Decimal(nanos).scaleb(-NANO_DIGITS)


class BudgetLimit(NamedTuple):
    """What a scope may spend in a month, in billionths; None where it is only watched."""

    scope: str
    nanos: int | None


@dataclass(frozen=True, slots=True)
class BudgetMonth:
    """One account's spending in one UTC month and currency."""

    account: str
    month: str
    currency: str

    @property
    def script_args(self) -> tuple[str, str]:
        """Return the balance `<account>:<currency>` and the month, as the scripts take them."""
        return f"{self.account}:{self.currency}", self.month


@dataclass(frozen=True, slots=True)
class BudgetReservation:
    """The most that a job may cost in billionths, and the limits it counts against."""

    bucket: BudgetMonth
    nanos: int
    limits: Sequence[BudgetLimit]

    @property
    def head(self) -> tuple[str, str, int]:
        """Return balance, month and nanos, as `submit.lua` takes them."""
        return *self.bucket.script_args, self.nanos

    def scope_args(self) -> list[str | int]:
        """Return (scope, limit or "") per limit, as `submit.lua` takes them."""
        pairs = ((scope, "" if nanos is None else nanos) for scope, nanos in self.limits)
        return [part for pair in pairs for part in pair]


class SpentAmount(NamedTuple):
    """What a scope has spent in a month, in billionths, according to the ledger."""

    bucket: BudgetMonth
    scope: str
    nanos: int


class BudgetReservations:
    """Settles and sweeps reservations."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._cursor = "0"

    async def settle(self, job_ids: Sequence[str], spent: Iterable[SpentAmount]) -> None:
        """Report spending, then release the reservations of jobs; may be repeated.

        Args:
            job_ids: Jobs whose usage the ledger has.
            spent: Sums of the ledger; a sum below the known one is ignored.

        Raises:
            StoreUnavailable: It may or may not have happened.
        """
        sums: list[str | int] = []
        for amount in spent:
            sums += (*amount.bucket.script_args, amount.scope, amount.nanos)
        await self._scripts.call("settle", *SettleArgs(len(job_ids)), *job_ids, *sums)

    async def sweep(self) -> int:
        """Examine some reservations and release those whose jobs left no usage.

        Many calls examine all of them.

        Returns:
            How many were released.

        Raises:
            StoreUnavailable: Try again later.
        """
        named = SweepReservationsArgs(self._cursor)
        row = SweptReservationsRow(*await self._scripts.call("sweep_reservations", *named))
        self._cursor = row.cursor.decode()
        return row.released
