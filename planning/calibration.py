"""Calibration: which jobs to measure, and the fit of an engine's latency model to them.

A point is a set of jobs of one size that are submitted together. The model predicts when each ends,
given when each started, with the simulator's closed form; the Gauss-Newton method changes its
parameters until the run times agree. Jobs that started a step apart are therefore no problem.
Only this module needs numpy; the `plan` extra installs it.
Invariant: no parameter is negative, and the reported error is that of the fit itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from planning.errors import CannotFit
from planning.profile import EngineProfile
from planning.worker_model import EngineWork, Worker

SHORT_PROMPT = 16
OUTPUT = 96
MOST_PROMPT = 8_192
#: Jobs in a batch of long prompts, from which the cost of context per step is found.
CROWD = 8

ROUNDS = 30
#: The step of the numerical derivative, as a share of a parameter's scale.
NUDGE = 1e-4
DONE = 1e-6
LEAST_SHARE = 1e-3
#: Errors above this many times the median count less, unless they are below LEAST_ERROR.
HUBER = 1.5
LEAST_ERROR = 1e-4
PARAMETERS = ("prefill", "base", "per_sequence", "per_context", "overhead")


@dataclass(frozen=True, slots=True)
class Point:
    """Jobs to run at the same time; prompt and output lengths are in tokens."""

    jobs: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class MeasuredJob:
    """One measured job: claim time and run time in seconds, prompt and output in tokens."""

    started: float
    seconds: float
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted profile and the relative errors of its run times."""

    profile: EngineProfile
    median_error: float
    worst_error: float
    overhead_seconds: float
    jobs: int


def design(slots: int, context: int, output: int = OUTPUT) -> list[Point]:
    """Return the points to measure on an engine.

    Args:
        slots: How many sequences the engine runs concurrently.
        context: The context length in tokens.
        output: Tokens to generate in the longest jobs.

    Raises:
        CannotFit: the context is too short for `output` tokens and a long prompt.
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


def fastest_round(rounds: Sequence[Sequence[MeasuredJob]]) -> Sequence[MeasuredJob]:
    """Return the round with the shortest run times: other load can only make jobs slower."""
    return min(rounds, key=lambda jobs: sum(job.seconds for job in jobs))


def fit(points: Sequence[Sequence[MeasuredJob]], profile: EngineProfile) -> Fit:
    """Fit the latencies of `profile` to measured points; its other fields are kept.

    Args:
        points: The measured jobs of each point.
        profile: The profile whose latencies are replaced.

    Raises:
        CannotFit: there are too few measurements, or they are too similar.
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


def _first_guess(jobs: Sequence[MeasuredJob]) -> list[float]:
    """Return the start values of the fit, which also serve as the parameters' scales."""
    step = median(job.seconds / job.output for job in jobs)
    longest = max(jobs, key=lambda job: job.prompt)
    prefill = max(step / 100, longest.seconds - step * longest.output) / longest.prompt
    return [prefill, step, step / 50, step / 1e5, step / 5]


def _play(point: Sequence[MeasuredJob], profile: EngineProfile) -> list[float]:
    """Return the predicted run time of each job of a point, in seconds."""
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

    Each point has the same weight, however many jobs it has, and outliers count less (Huber),
    because other load on the machine for a moment must not change the model.
    """

    def __init__(
        self, np: Any, points: Sequence[Sequence[MeasuredJob]], profile: EngineProfile
    ) -> None:
        self._np = np
        self._points = points
        self._profile = profile.model_copy(
            update={"slots": max(len(point) for point in points), "kv_tokens": 0}
        )
        self._measured = np.array([job.seconds for point in points for job in point])
        self._shares = np.array([1 / len(point) for point in points for _ in point])

    def run(self, scales: Sequence[float]) -> Any:
        """Return the parameters at which the error no longer decreases."""
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
        """Return each job's relative error: (measured - predicted) / measured run time."""
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

        A parameter that would become negative stays at zero and the rest is solved again.
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
        """Return the values after the largest helpful part of the step; None if none helps."""
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
