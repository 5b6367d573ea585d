"""The model of one worker: continuous batching in closed form, O(log n) per event, not per step.

Between two changes of the batch, each step takes a constant longer than the one before, because
the context grows. The time after m steps is therefore a polynomial in m, and the next end, or the
step boundary at which a new job joins, is computed without stepping. The result equals that of the
stepping model; it is no approximation (`tests/unit/planning/test_worker_model.py` compares the
two).

Memory for the whole answer is reserved when a job joins, so no job is preempted. vLLM allocates
memory step by step, admits a little more and preempts sometimes.
Invariant: `room` is never negative, and a job leaves by `advance` or `hand_back`, once.
"""

from collections import deque
from heapq import heappop, heappush
from math import ceil, inf, sqrt
from typing import NamedTuple

from planning.profile import EngineProfile

#: Times that differ by less than this, in seconds, are equal: sums of floats are not exact.
TIGHT = 1e-9


class EngineWork(NamedTuple):
    """A job for a worker: tokens to prefill and tokens to generate."""

    job: int
    prefill: int
    output: int


class HandedOverJob(NamedTuple):
    """A job that a drain handed over, with the tokens it generated on this worker."""

    job: int
    made: int


class Worker:
    """A serving worker; `due` is when it must be advanced next, in seconds since the start."""

    __slots__ = (
        *("_ahead", "_clock", "_context", "_growth", "_kv_free", "_linear", "_pending", "_prefill"),
        *("_profile", "_running", "_step", "_works", "blocked", "busy_seconds", "draining", "due"),
        *("listed", "number", "room", "scheduled"),
    )

    def __init__(self, number: int, profile: EngineProfile) -> None:
        self.number = number
        self.room = profile.slots
        self.due = inf
        self.scheduled = inf  # when the simulation advances it next
        self.draining = False
        self.listed = False  # it waits for jobs
        self.blocked = False  # a claimed job waits for memory
        self.busy_seconds = 0.0
        self._profile = profile
        self._kv_free = profile.kv_tokens or inf
        self._running: list[tuple[int, int]] = []  # (last step, job), a heap
        self._works: dict[int, tuple[EngineWork, int]] = {}  # job -> work, step at which it joined
        self._pending: deque[tuple[float, EngineWork]] = deque()
        self._step = 0
        self._ahead = 0  # steps from the clock until `due`
        self._clock = 0.0  # the boundary at which this run of steps began
        self._context = 0  # tokens held at that boundary
        self._prefill = self._linear = self._growth = 0.0

    @property
    def load(self) -> int:
        """How many jobs are claimed and have not ended."""
        return self._profile.slots - self.room

    def takes(self, at: float, together: float) -> bool:
        """Return whether it would claim a job at `at`.

        While a claimed job waits for the next step or for memory, only jobs that arrive within
        `together` seconds are claimed with it, because the batcher looks at the engine's load.
        """
        if self.room <= 0 or self.draining:
            return False
        return not self._pending or at <= self._pending[0][0] + together

    def claim(self, work: EngineWork, at: float) -> None:
        """Claim a job that reaches the engine at `at`, which must not decrease between calls."""
        self.room -= 1
        self._pending.append((at, work))
        if len(self._pending) == 1:
            self._consider(at)

    def advance(self, now: float) -> list[int]:
        """Advance to the step boundary at `now`, which is `due`; return the jobs that end there."""
        if not self._running:
            return []
        self._step += self._ahead
        self._context += self._ahead * len(self._running)
        self.busy_seconds += now - self._clock
        self._clock = now
        ended = []
        running = self._running
        while running and running[0][0] <= self._step:
            job = heappop(running)[1]
            work, _ = self._works.pop(job)
            self._context -= work.prefill + work.output
            self._kv_free += work.prefill + work.output
            ended.append(job)
        self.room += len(ended)
        return ended

    def join(self, now: float) -> tuple[list[int], float]:
        """Start the next run of steps at the boundary `now`; call it after each `advance`.

        Returns:
            The jobs that join the batch, and the time of their first token.
        """
        joined = []
        prefill = 0
        pending, running = self._pending, self._running
        while pending and pending[0][0] <= now + TIGHT:
            work = pending[0][1]
            need = work.prefill + work.output
            if need > self._kv_free:
                break
            pending.popleft()
            self._kv_free -= need
            self._context += work.prefill
            prefill += work.prefill
            heappush(running, (self._step + work.output, work.job))
            self._works[work.job] = (work, self._step)
            joined.append(work.job)
        self.blocked = bool(pending) and pending[0][0] <= now + TIGHT
        profile = self._profile
        self._clock = now
        self._prefill = prefill / profile.prefill_tokens_per_second
        self._growth = profile.step_per_context_token_seconds * len(running)
        self._linear = (
            profile.step_base_seconds
            + profile.step_per_sequence_seconds * len(running)
            + profile.step_per_context_token_seconds * self._context
        )
        self._plan()
        return joined, self._after(1)

    def hand_back(self, now: float) -> list[HandedOverJob]:
        """Stop at `now`, even within a step; return all jobs with the tokens generated here."""
        done = self._step
        if self._running:
            steps = self._steps_until(now + TIGHT, whole=False)
            done += steps
            self.busy_seconds += now - self._clock
        handed = [
            HandedOverJob(job, min(work.output, done - joined))
            for job, (work, joined) in sorted(self._works.items())
        ]
        handed += [HandedOverJob(work.job, 0) for _, work in self._pending]
        self._running.clear()
        self._works.clear()
        self._pending.clear()
        self.room = self._profile.slots
        self.due = inf
        return handed

    def _plan(self) -> None:
        self.due = inf
        if self._running:
            self._ahead = self._running[0][0] - self._step
            self.due = self._after(self._ahead)
        if self._pending and not self.blocked:
            self._consider(self._pending[0][0])

    def _consider(self, at: float) -> None:
        """Set `due` to the first step boundary at or after `at`, unless a job ends earlier."""
        if not self._running:
            self.due = at
            return
        steps = max(1, self._steps_until(at))
        if steps < self._ahead:
            self._ahead = steps
            self.due = self._after(steps)

    def _after(self, steps: int) -> float:
        """Return the time at which `steps` more steps are done."""
        return (
            self._clock
            + self._prefill
            + steps * self._linear
            + self._growth * (steps * (steps - 1) / 2)
        )

    def _steps_until(self, at: float, *, whole: bool = True) -> int:
        """Return how many steps end by `at`; with `whole`, the step under way counts."""
        left = at - self._clock - self._prefill
        if left <= 0:
            return 1 if whole else 0
        first = self._linear - self._growth / 2
        exact = 2 * left / (first + sqrt(first * first + 2 * self._growth * left))
        nearest = round(exact)
        if nearest and abs(self._after(nearest) - at) <= TIGHT:
            return nearest
        return ceil(exact) if whole else int(exact)
