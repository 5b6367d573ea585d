"""An engine's latency model from measured runs: what to run, and the fit.

A point is some jobs of one size submitted together. The model predicts when each of them ends,
given when each really started, with the closed form that the simulator uses; Gauss and Newton's
method moves its parameters until the run times agree. So jobs that started a step apart do no
harm. numpy is needed here alone; it comes with the `plan` extra.
Invariant: no parameter is negative, and the error that is reported is that of the fit itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from planning.engine import Work, Worker
from planning.errors import CannotFit
from planning.profile import EngineProfile

SHORT_PROMPT = 16
SHORT_OUTPUT, LONG_OUTPUT = 16, 96
MOST_PROMPT = 8_192
#: A batch of long prompts, so that what context costs a step can be told from the rest.
CROWD = 8

ROUNDS = 30
#: A parameter is moved by this share of its scale to see what it does.
NUDGE = 1e-4
DONE = 1e-6
PARAMETERS = ("prefill", "base", "per_sequence", "per_context", "overhead")


@dataclass(frozen=True, slots=True)
class Point:
    """Jobs to run at the same time."""

    jobs: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Ran:
    """One job of a point: when it was claimed, how long it ran, what it read and made."""

    started: float
    seconds: float
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Fit:
    """What came out: the profile, and how far its run times are from the measured ones."""

    profile: EngineProfile
    median_error: float
    worst_error: float
    overhead_seconds: float
    jobs: int


def design(slots: int, context: int) -> list[Point]:
    """Return what to run on an engine with so many slots and so long a context."""
    longest = min(MOST_PROMPT, max(SHORT_PROMPT * 2, context - LONG_OUTPUT - SHORT_PROMPT))
    lengths = [SHORT_PROMPT, longest // 4, longest // 2, longest]
    points = [Point(1, prompt, output) for prompt in lengths
              for output in (SHORT_OUTPUT, LONG_OUTPUT)]  # fmt: skip
    crowds = list(_doubling(slots))
    points += [Point(jobs, SHORT_PROMPT, LONG_OUTPUT) for jobs in crowds]
    points += [Point(min(CROWD, slots), length, LONG_OUTPUT) for length in lengths[1:3]]
    return points


def fit(points: Sequence[Sequence[Ran]], profile: EngineProfile) -> Fit:
    """Fit the latencies of `profile` to measured points; its other fields are kept.

    Raises:
        CannotFit: too few measurements, or all alike.
    """
    np = _numpy()
    jobs = [job for point in points for job in point]
    if len(jobs) <= len(PARAMETERS):
        raise CannotFit(f"{len(jobs)} measured jobs cannot fix {len(PARAMETERS)} parameters")
    if len({job.prompt for job in jobs}) < 2 or len({len(point) for point in points}) < 2:
        raise CannotFit("several prompt lengths and several concurrencies are needed")
    measured = np.array([job.seconds for job in jobs])
    scales = _first_guess(jobs)
    values = np.array(scales)
    predicted = _predict(points, values, profile)
    error = _relative(predicted, measured)
    for _ in range(ROUNDS):
        step = _newton(np, points, profile, values, scales, predicted, measured)
        better = _improve(np, points, profile, values, step, measured, error)
        if better is None:
            break
        gained = (error @ error) - (better[2] @ better[2])
        values, predicted, error = better
        if gained <= DONE * (error @ error):
            break
    return _result(values, np.abs(error), profile, len(jobs))


def _doubling(slots: int) -> Iterator[int]:
    jobs = 2
    while jobs < slots:
        yield jobs
        jobs *= 2
    if slots > 1:
        yield slots


def _first_guess(jobs: Sequence[Ran]) -> list[float]:
    """Return where to begin, which also is the size that each parameter is thought to have."""
    step = median(job.seconds / job.output for job in jobs)
    longest = max(jobs, key=lambda job: job.prompt)
    prefill = max(step / 100, longest.seconds - step * longest.output) / longest.prompt
    return [prefill, step, step / 50, step / 1e5, step / 5]


def _predict(points: Sequence[Sequence[Ran]], values: Any, profile: EngineProfile) -> Any:
    """Return the run time of every job under these parameters."""
    np = _numpy()
    prefill, base, per_sequence, per_context, overhead = (max(0.0, float(v)) for v in values)
    candidate = profile.model_copy(
        update={
            "prefill_tokens_per_second": 1 / max(prefill, 1e-12),
            "step_base_seconds": max(base, 1e-9),
            "step_per_sequence_seconds": per_sequence,
            "step_per_context_token_seconds": per_context,
            "slots": max(len(point) for point in points),
            "kv_tokens": 0,
        }
    )
    seconds = [run for point in points for run in _play(point, candidate)]
    return np.array(seconds) + overhead


def _play(point: Sequence[Ran], profile: EngineProfile) -> list[float]:
    """Return how long each job of a point runs on the modelled engine."""
    worker = Worker(0, profile)
    waiting = sorted(range(len(point)), key=lambda index: -point[index].started)
    first = min(job.started for job in point)
    ends = [0.0] * len(point)
    while waiting or worker.due < inf:
        at = point[waiting[-1]].started - first if waiting else inf
        if at <= worker.due:
            index = waiting.pop()
            worker.claim(Work(index, point[index].prompt, point[index].output), at)
            continue
        now = worker.due
        for index in worker.advance(now):
            ends[index] = now
        worker.join(now)
    return [end - (job.started - first) for end, job in zip(ends, point, strict=True)]


def _relative(predicted: Any, measured: Any) -> Any:
    return (measured - predicted) / measured


def _newton(
    np: Any,
    points: Sequence[Sequence[Ran]],
    profile: EngineProfile,
    values: Any,
    scales: Sequence[float],
    predicted: Any,
    measured: Any,
) -> Any:
    """Return the step that would end at the least squares if the model were linear.

    A parameter that would go below zero is held there and the rest is solved again.
    """
    columns = []
    for index, scale in enumerate(scales):
        moved = values.copy()
        moved[index] += NUDGE * scale
        columns.append((_predict(points, moved, profile) - predicted) / (NUDGE * measured))
    slopes = np.stack(columns, axis=1)
    target = (measured - predicted) / measured
    scale = np.array(scales)
    free = list(range(len(scales)))
    step = np.zeros(len(scales))
    while free:
        solved = np.linalg.lstsq(slopes[:, free], target, rcond=1e-10)[0]
        below = [i for i, move in zip(free, solved, strict=True)
                 if values[i] + move * scale[i] < 0 and values[i] <= 0]  # fmt: skip
        if not below:
            step[free] = solved
            break
        free = [index for index in free if index not in below]
    return step * scale


def _improve(
    np: Any,
    points: Sequence[Sequence[Ran]],
    profile: EngineProfile,
    values: Any,
    step: Any,
    measured: Any,
    error: Any,
) -> tuple[Any, Any, Any] | None:
    """Go along the step as far as it helps; None where it does not."""
    share = 1.0
    while share > 1e-3:
        moved = np.maximum(0.0, values + share * step)
        predicted = _predict(points, moved, profile)
        found = _relative(predicted, measured)
        if found @ found < error @ error:
            return moved, predicted, found
        share /= 2
    return None


def _result(values: Any, errors: Any, profile: EngineProfile, jobs: int) -> Fit:
    prefill, base, per_sequence, per_context, overhead = (float(value) for value in values)
    if prefill <= 0 or base + per_sequence <= 0:
        raise CannotFit("the measurements say that prefill or steps take no time")
    middle = float(median(errors.tolist()))
    fitted = profile.model_copy(
        update={
            "prefill_tokens_per_second": round(1 / prefill, 3),
            "step_base_seconds": round(base, 9),
            "step_per_sequence_seconds": round(per_sequence, 9),
            "step_per_context_token_seconds": round(per_context, 12),
            "fit_error": round(middle, 6),
        }
    )
    return Fit(fitted, middle, float(errors.max()), overhead, jobs)


def _numpy() -> Any:
    try:
        import numpy as np  # noqa: PLC0415 - an optional extra, needed only to fit
    except ImportError as error:
        raise CannotFit("the fit needs numpy, which the extra `plan` brings") from error
    return np
