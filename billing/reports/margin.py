"""Each model's revenue in a month and what its GPUs cost: an estimate, never part of an invoice.

docs/billing.md says how GPU time is attributed and what that leaves out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.money import ROUNDING, ZERO, to_micros, total
from billing.months import bounds, check_month
from billing.pricing.gpu_rates import GpuRate, load_gpu_rates
from billing.reports.gpu_time import BusyPeriod, measure_gpu_time
from billing.sums import bytewise, exact_sum
from core.db.database import Database
from core.db.tables.usage import UsageEventRow

HOUR = Decimal(3_600)
MILLION = Decimal(1_000_000)


@dataclass(slots=True)
class Margin:
    """One model's month; `cost` is None unless GPU rates cover all of the time it ran.

    Revenue is by currency; `cost` is in units of `currency`; times are in seconds.
    """

    model: str
    jobs: int = 0
    tokens: int = 0
    job_seconds: Decimal = ZERO
    revenue: dict[str, Decimal] = field(default_factory=dict)
    gpu_seconds: Decimal = ZERO
    paid_seconds: Decimal | None = None
    most_jobs: int = 0
    currency: str | None = None
    cost: Decimal | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def margin(self) -> Decimal | None:
        """Return revenue minus cost, if both are in one currency."""
        if self.cost is None or set(self.revenue) - {self.currency}:
            return None
        return total(self.revenue.get(self.currency or "", ZERO), -self.cost)

    @property
    def cost_per_million(self) -> Decimal | None:
        """Return the cost per million tokens, input and output together."""
        if self.cost is None or not self.tokens:
            return None
        return to_micros(ROUNDING.divide(self.cost * MILLION, Decimal(self.tokens)))

    @property
    def mean_jobs(self) -> Decimal | None:
        """Return the average number of jobs that ran at a time on a working GPU."""
        if not self.gpu_seconds:
            return None
        return round(ROUNDING.divide(self.job_seconds, self.gpu_seconds), 2)


async def margins(
    database: Database, month: str, paid_hours: Mapping[str, Decimal] | None = None
) -> list[Margin]:
    """Return each model's margin of a UTC month.

    Args:
        database: where the ledger is.
        month: as in 2026-11.
        paid_hours: GPU-hours paid for, by model, where they are known.

    Raises:
        InvalidMonth: this is not a month.
        DatabaseUnavailable: try again later.
    """
    check_month(month)
    async with database.read() as connection:
        found = await _revenue(connection, month)
        rates = await load_gpu_rates(connection)
        for margin in found:
            own = [rate for rate in rates if rate.model == margin.model]
            paid = (paid_hours or {}).get(margin.model)
            await _add_cost(connection, month, margin, own, paid, sqlite=database.is_sqlite)
    return found


async def _revenue(connection: AsyncConnection, month: str) -> list[Margin]:
    """Add up the jobs that finished in a month, whichever month bills them."""
    since, until = bounds(month)
    event = UsageEventRow
    query = (
        select(
            event.model,
            event.currency,
            func.count(),
            func.sum(event.input_tokens),
            func.sum(event.output_tokens),
            func.sum(event.run_ms),
            exact_sum(event.input_amount),
            exact_sum(event.cached_amount),
            exact_sum(event.output_amount),
        )
        .where(event.month >= month, event.finished_at >= since, event.finished_at < until)
        .group_by(event.model, event.currency)
        .order_by(bytewise(event.model))
    )
    found: dict[str, Margin] = {}
    for row in await connection.execute(query):
        model, currency, jobs, inputs, outputs, run_ms, *amounts = row
        margin = found.setdefault(model, Margin(model))
        margin.jobs += jobs
        margin.tokens += int(inputs + outputs)
        margin.job_seconds += _seconds(int(run_ms))
        if currency is None:
            margin.notes.append(f"{jobs} jobs have no price")
        else:
            margin.revenue[currency] = total(*amounts)
    return list(found.values())


async def _add_cost(
    connection: AsyncConnection,
    month: str,
    margin: Margin,
    rates: Sequence[GpuRate],
    paid_hours: Decimal | None,
    *,
    sqlite: bool,
) -> None:
    in_force = _in_force(month, rates)
    if not in_force:
        margin.notes.append("no GPU rate: set one with penstock gpu-rates set")
        return
    periods = _periods(in_force)
    times = await measure_gpu_time(connection, month, margin.model, periods, sqlite=sqlite)
    unrated, times = times[0], times[1:]
    margin.gpu_seconds = _seconds(sum(time.gpu_ms for time in times))
    margin.most_jobs = max(time.most_jobs for time in times)
    margin.currency = in_force[-1].currency
    if unrated.busy_ms:
        margin.notes.append(f"no GPU rate for {_seconds(unrated.busy_ms)} s of the month")
        return
    if {rate.currency for rate in in_force} != {margin.currency}:
        margin.notes.append("GPU rates are in several currencies")
        return
    cost = ZERO
    for rate, time in zip(in_force, times, strict=True):
        cost += ROUNDING.divide(_seconds(time.gpu_ms) * rate.per_hour, HOUR)
    if paid_hours is not None:
        margin.paid_seconds = paid_hours * HOUR
        # Paid hours cost the mean rate of the hours worked, or the last rate if there were none.
        mean = ROUNDING.divide(cost, margin.gpu_seconds) * HOUR if margin.gpu_seconds else None
        cost = paid_hours * (in_force[-1].per_hour if mean is None else mean)
    margin.cost = to_micros(cost)
    if set(margin.revenue) - {margin.currency}:
        margin.notes.append("revenue and GPU rate are in different currencies")


def _in_force(month: str, rates: Sequence[GpuRate]) -> list[GpuRate]:
    """Return the rates valid at any time of a month, oldest first."""
    since, until = bounds(month)
    before = [rate for rate in rates if rate.valid_from <= since]
    return before[-1:] + [rate for rate in rates if since < rate.valid_from < until]


def _periods(rates: Sequence[GpuRate]) -> list[BusyPeriod]:
    """Return the period before the first rate, then the period of each rate."""
    starts = [rate.valid_from for rate in rates]
    periods = [BusyPeriod(None, starts[0], 1)]
    for rate, until in zip(rates, [*starts[1:], None], strict=True):
        periods.append(BusyPeriod(rate.valid_from, until, rate.slots))
    return periods


def _seconds(milliseconds: int) -> Decimal:
    return Decimal(milliseconds).scaleb(-3)
