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

from planning.engine import EngineWork, Worker
from planning.errors import CannotFit
from planning.profile import EngineProfile

SHORT_PROMPT = 16
OUTPUT = 96
MOST_PROMPT = 8_192
#: A batch of long prompts, so that what context costs a step can be told from the rest.
CROWD = 8

ROUNDS = 30
#: A parameter is moved by this share of its scale to see what it does.
NUDGE = 1e-4
DONE = 1e-6
LEAST_SHARE = 1e-3
#: Errors beyond this many times the usual one count less; smaller ones than LEAST_ERROR do not.
HUBER = 1.5
LEAST_ERROR = 1e-4
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


def design(slots: int, context: int, output: int = OUTPUT) -> list[Point]:
    """Return what to run on an engine with so many slots and so long a context.

    Raises:
        CannotFit: the context does not hold `output` tokens and a prompt of some length.
    """
    longest = min(MOST_PROMPT, context - output - SHORT_PROMPT)
    if longest < SHORT_PROMPT * 4:
        raise CannotFit(f"a context of {context} tokens is too short to make {output} of them")
    lengths = [SHORT_PROMPT, longest // 4, longest // 2, longest]
    outputs = (max(1, output // 6), output)
    points = [Point(1, length, tokens) for length in lengths for tokens in outputs]
    points += [Point(jobs, SHORT_PROMPT, output) for jobs in _doubling(slots)]
    points += [Point(min(CROWD, slots), length, output) for length in lengths[1:3]]
    return points


def quietest(rounds: Sequence[Sequence[Ran]]) -> Sequence[Ran]:
    """Return the round in which a point's jobs ran shortest: what else runs only ever slows."""
    return min(rounds, key=lambda jobs: sum(job.seconds for job in jobs))


def fit(points: Sequence[Sequence[Ran]], profile: EngineProfile) -> Fit:
    """Fit the latencies of `profile` to measured points; its other fields are kept.

    Raises:
        CannotFit: too few measurements, or all alike.
    """
    jobs = [job for point in points for job in point]
    if len(jobs) <= len(PARAMETERS):
        raise CannotFit(f"{len(jobs)} measured jobs cannot fix {len(PARAMETERS)} parameters")
    if len({job.prompt for job in jobs}) < 2 or len({len(point) for point in points}) < 2:
        raise CannotFit("several prompt lengths and several concurrencies are needed")
    fitting = _Fitting(_numpy(), points, profile)
    values = fitting.run(_first_guess(jobs))
    return _result(values, abs(fitting.errors(values)), profile, len(jobs))


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
            worker.claim(EngineWork(index, point[index].prompt, point[index].output), at)
            continue
        now = worker.due
        for index in worker.advance(now):
            ends[index] = now
        worker.join(now)
    return [end - (job.started - first) for end, job in zip(ends, point, strict=True)]


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


class _Fitting:
    """Gauss-Newton on the jobs' relative errors.

    A point counts once, however many jobs it has, and one that is far off counts less (Huber):
    a machine that was busy with something else for a moment must not bend the model.
    """

    def __init__(self, np: Any, points: Sequence[Sequence[Ran]], profile: EngineProfile) -> None:
        self._np = np
        self._points = points
        self._profile = profile.model_copy(
            update={"slots": max(len(point) for point in points), "kv_tokens": 0}
        )
        self._measured = np.array([job.seconds for point in points for job in point])
        self._shares = np.array([1 / len(point) for point in points for _ in point])

    def run(self, scales: Sequence[float]) -> Any:
        """Return the parameters at which nothing gets better any more."""
        values = self._np.array(scales)
        for _ in range(ROUNDS):
            errors = self.errors(values)
            weights = self._weights(errors)
            step = self._step(values, scales, errors, weights)
            better = self._along(values, step, errors, weights)
            if better is None:
                break
            values = better
        return values

    def errors(self, values: Any) -> Any:
        """Return by how much of its run time each job ran longer than predicted."""
        prefill, base, per_sequence, per_context, overhead = (max(0.0, float(v)) for v in values)
        candidate = self._profile.model_copy(
            update={
                "prefill_tokens_per_second": 1 / max(prefill, 1e-12),
                "step_base_seconds": max(base, 1e-9),
                "step_per_sequence_seconds": per_sequence,
                "step_per_context_token_seconds": per_context,
            }
        )
        seconds = [run for point in self._points for run in _play(point, candidate)]
        return (self._measured - self._np.array(seconds) - overhead) / self._measured

    def _weights(self, errors: Any) -> Any:
        size = abs(errors)
        usual = max(LEAST_ERROR, HUBER * float(median(size.tolist())))
        return self._shares * self._np.minimum(1.0, usual / self._np.maximum(size, LEAST_ERROR))

    def _step(self, values: Any, scales: Sequence[float], errors: Any, weights: Any) -> Any:
        """Return the step that would end at the least squares if the model were linear.

        A parameter that would go below zero is held there and the rest is solved again.
        """
        np, scale, roots = self._np, self._np.array(scales), self._np.sqrt(weights)
        columns = []
        for index in range(len(scales)):
            moved = values.copy()
            moved[index] += NUDGE * scale[index]
            columns.append(roots * (errors - self.errors(moved)) / NUDGE)
        slopes = np.stack(columns, axis=1)
        free, step = list(range(len(scales))), np.zeros(len(scales))
        while free:
            solved = np.linalg.lstsq(slopes[:, free], roots * errors, rcond=1e-10)[0]
            moves = zip(free, solved, strict=True)
            held = [i for i, move in moves if values[i] <= 0 and move < 0]
            if not held:
                step[free] = solved
                break
            free = [index for index in free if index not in held]
        return step * scale

    def _along(self, values: Any, step: Any, errors: Any, weights: Any) -> Any | None:
        """Go along the step as far as it helps; None where it helps too little."""
        before = float(weights @ errors**2)
        share = 1.0
        while share > LEAST_SHARE:
            moved = self._np.maximum(0.0, values + share * step)
            after = float(weights @ self.errors(moved) ** 2)
            if after < before * (1 - DONE):
                return moved
            share /= 2
        return None


def _numpy() -> Any:
    try:
        import numpy as np  # noqa: PLC0415 - an optional extra, needed only to fit
    except ImportError as error:
        raise CannotFit("the fit needs numpy, which the extra `plan` brings") from error
    return np
