"""How long GPUs worked for a model, computed by the database from the run times of its jobs.

A worker runs several jobs at a time, so run times are not added up: each moment counts the least
number of GPUs that the running jobs need. Invariant: memory does not grow with the number of jobs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Select, case, cast, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.months import bounds
from core.db.sql_time import unix_ms
from core.db.tables.base import table_of
from core.db.tables.usage import UsageEventRow

EVENTS = table_of(UsageEventRow)


@dataclass(frozen=True, slots=True)
class BusyPeriod:
    """A part of the timeline, open-ended where None, in which a GPU runs `slots` jobs at a time."""

    since: datetime | None
    until: datetime | None
    slots: int


@dataclass(frozen=True, slots=True)
class GpuTime:
    """Milliseconds with any job running, GPU-milliseconds needed, and the most jobs at a time."""

    busy_ms: int
    gpu_ms: int
    most_jobs: int


async def measure_gpu_time(
    connection: AsyncConnection,
    month: str,
    model: str,
    periods: Sequence[BusyPeriod],
    *,
    sqlite: bool,
) -> list[GpuTime]:
    """Return the GPU time of each period, for a model's jobs that finished in a month."""
    cuts = [_ms(period.since) for period in periods if period.since is not None]
    found = []
    for period in periods:
        query = _profile(month, model, cuts, period, sqlite=sqlite)
        busy, gpus, most = (await connection.execute(query)).one()
        found.append(GpuTime(int(busy or 0), int(gpus or 0), int(most or 0)))
    return found


def _profile(
    month: str, model: str, cuts: Sequence[int], period: BusyPeriod, *, sqlite: bool
) -> Select[Any]:
    """Follow the number of running jobs: up at each start, down at each end, cut at each period."""
    first, last = bounds(month)
    end = unix_ms(EVENTS.c.finished_at, sqlite=sqlite)
    # Usage is billed in its own month or, if late, in a later one; the index starts with the month.
    runs = (
        select((end - EVENTS.c.run_ms).label("start"), end.label("end"))
        .where(
            *(EVENTS.c.month >= month, EVENTS.c.model == model, EVENTS.c.run_ms > 0),
            *(EVENTS.c.finished_at >= first, EVENTS.c.finished_at < last),
        )
        .cte("runs")
    )
    steps = union_all(
        select(runs.c.start.label("at"), literal(1).label("step")),
        select(runs.c.end, literal(-1)),
        *(select(literal(cut, BigInteger), literal(0)) for cut in cuts),
    ).subquery()
    moments = (
        select(steps.c.at, func.sum(steps.c.step).label("step")).group_by(steps.c.at).subquery()
    )
    running = cast(func.sum(moments.c.step).over(order_by=moments.c.at), BigInteger)
    length = func.lead(moments.c.at).over(order_by=moments.c.at) - moments.c.at
    profile = select(moments.c.at, running.label("jobs"), length.label("ms")).subquery()
    gpus = (profile.c.jobs + (period.slots - 1)) // period.slots
    query = select(
        func.sum(case((profile.c.jobs > 0, profile.c.ms), else_=0)),
        func.sum(profile.c.ms * gpus),
        func.max(profile.c.jobs),
    )
    if period.since is not None:
        query = query.where(profile.c.at >= _ms(period.since))
    if period.until is not None:
        query = query.where(profile.c.at < _ms(period.until))
    return query


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
