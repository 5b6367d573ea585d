"""One worker: continuous batching in closed form, O(log n) an event instead of a step.

Between two changes of its batch every step of an engine costs the same, plus a constant more
each time for the tokens of context that grow; so the time after m steps is a polynomial in m,
and the next end, or the boundary at which a newcomer joins, is found without stepping. The
result is that of the stepping model, not an approximation of it (`tests/unit/planning/
test_engine.py` compares the two).

Memory is taken for the whole answer when a job joins, so nothing is ever preempted; vLLM takes
it as it goes, which admits a little more and preempts now and then.
Invariant: `room` is never negative, and a job leaves by `advance` or `hand_back`, once.
"""

from collections import deque
from heapq import heappop, heappush
from math import ceil, inf, sqrt
from typing import NamedTuple

from planning.profile import EngineProfile

#: A boundary that is early by less than this is on time: sums of floats differ in the last digits.
TIGHT = 1e-9


class EngineWork(NamedTuple):
    """A job as a worker sees it: what to read first, what to make."""

    job: int
    prefill: int
    output: int


class Handed(NamedTuple):
    """A job given back by a drain, with the tokens that it has made here."""

    job: int
    made: int


class Worker:
    """A worker that is up; `due` is when it must be advanced next."""

    __slots__ = (
        *("_ahead", "_clock", "_context", "_growth", "_kv_free", "_linear", "_pending", "_prefill"),
        *("_profile", "_running", "_step", "_works", "blocked", "busy_seconds", "draining", "due"),
        *("listed", "number", "room", "scheduled"),
    )

    def __init__(self, number: int, profile: EngineProfile) -> None:
        self.number = number
        self.room = profile.slots
        self.due = inf
        self.scheduled = inf  # the event that the simulation has set for it
        self.draining = False
        self.listed = False  # it stands in the line of those that have room
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
        """Jobs claimed and not ended."""
        return self._profile.slots - self.room

    def takes(self, at: float, together: float) -> bool:
        """Say whether it would claim at `at`.

        While a job that was handed over waits for the next step, or for memory, nothing more is
        claimed, except `together` with it: the batcher looks at the engine's load.
        """
        if self.room <= 0 or self.draining:
            return False
        return not self._pending or at <= self._pending[0][0] + together

    def claim(self, work: EngineWork, at: float) -> None:
        """Take a job that is handed to the engine at `at`, which must not go backwards."""
        self.room -= 1
        self._pending.append((at, work))
        if len(self._pending) == 1:
            self._consider(at)

    def advance(self, now: float) -> list[int]:
        """Go to the boundary at `now` (= `due`); return the jobs that end there."""
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
        """Begin the next run of steps at the boundary `now`; return who joins, their first token.

        Called after each `advance`, and after what was claimed there.
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

    def hand_back(self, now: float) -> list[Handed]:
        """Stop at `now`, in the middle of a step; return all jobs with what they made here."""
        done = self._step
        if self._running:
            steps = self._steps_until(now + TIGHT, whole=False)
            done += steps
            self.busy_seconds += now - self._clock
        handed = [
            Handed(job, min(work.output, done - joined))
            for job, (work, joined) in sorted(self._works.items())
        ]
        handed += [Handed(work.job, 0) for _, work in self._pending]
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
        """Be due at the first boundary that is not before `at`, unless an end comes earlier."""
        if not self._running:
            self.due = at
            return
        steps = max(1, self._steps_until(at))
        if steps < self._ahead:
            self._ahead = steps
            self.due = self._after(steps)

    def _after(self, steps: int) -> float:
        """Return when so many more steps are done."""
        return (
            self._clock
            + self._prefill
            + steps * self._linear
            + self._growth * (steps * (steps - 1) / 2)
        )

    def _steps_until(self, at: float, *, whole: bool = True) -> int:
        """Return how many steps end by `at`; one that is under way counts where `whole`."""
        left = at - self._clock - self._prefill
        if left <= 0:
            return 1 if whole else 0
        first = self._linear - self._growth / 2
        exact = 2 * left / (first + sqrt(first * first + 2 * self._growth * left))
        nearest = round(exact)
        if nearest and abs(self._after(nearest) - at) <= TIGHT:
            return nearest
        return ceil(exact) if whole else int(exact)
