"""What the fleet would cost if the future were known, and what a fleet that never changes costs.

The oracle's timetable has a size per interval. It begins with the work that arrives, adds
workers where requests waited too long until the objective is met, then takes away what turns
out not to be needed. It asks for each worker early enough that it is up when wanted. That is a
local minimum within a fixed number of runs, not a proof of the least.
Invariant: both fleets meet the objective, or no fleet of `most` workers does.
"""

from collections.abc import Sequence
from math import ceil

from jobs.settings import QueueSettings
from planning.controllers import Controller, Timetable
from planning.outcome import Objective, Outcome
from planning.profile import EngineProfile
from planning.simulation import Bounds, Simulation
from planning.trace import Trace

INTERVAL_SECONDS = 60.0
#: Requests that all runs of the search together may simulate; it bounds the time it takes.
BUDGET_REQUESTS = 250_000
LEAST_RUNS, MOST_RUNS = 8, 60


class Planner:
    """Runs one trace on one engine against many controllers."""

    def __init__(
        self,
        trace: Trace,
        profile: EngineProfile,
        objective: Objective,
        queue: QueueSettings | None = None,
    ) -> None:
        self.trace = trace
        self.profile = profile
        self.objective = objective
        self._queue = queue
        self._allowed = int(len(trace) * (1 - objective.share) + 1e-9)

    def run(self, controller: Controller) -> Outcome:
        """Run to the end."""
        return Simulation(self.trace, self.profile, controller, self._queue).run()

    def meets(self, controller: Controller) -> bool:
        """Say whether the objective is met; stops as soon as it cannot be any more."""
        bounds = Bounds(self.objective.seconds, self._allowed, self.objective.on)
        outcome = Simulation(self.trace, self.profile, controller, self._queue, bounds).run()
        return outcome.meets(self.objective)

    def fixed(self, most: int) -> int | None:
        """Return the smallest fleet that meets the objective; None if `most` does not."""
        low, high = 0, 1
        while not self.meets(Timetable([high])):
            if high >= most:
                return None
            low, high = high, min(most, high * 2)
        while high - low > 1:
            middle = (low + high) // 2
            if self.meets(Timetable([middle])):
                high = middle
            else:
                low = middle
        return high

    def oracle(self, fleet: int) -> list[int]:
        """Return sizes per interval that meet the objective, as a fixed fleet of `fleet` does."""
        runs = max(LEAST_RUNS, min(MOST_RUNS, BUDGET_REQUESTS // len(self.trace)))
        sizes = [min(fleet, size) for size in self._demand()]
        for _ in range(runs // 2):
            outcome = self.run(self.timetable(sizes))
            if outcome.meets(self.objective):
                break
            self._add_where_it_waited(sizes, outcome, fleet)
        else:
            sizes = self._between(sizes, fleet)
        return self._prune(sizes, runs // 2)

    def timetable(self, sizes: Sequence[int]) -> Timetable:
        """Return the controller that follows these sizes."""
        return Timetable(sizes, INTERVAL_SECONDS, self.profile.start_seconds)

    def _demand(self) -> list[int]:
        """Return how many workers the work that arrives in each interval keeps busy."""
        profile = self.profile
        count = int(self.trace.seconds // INTERVAL_SECONDS) + 1
        work = [0.0] * count
        per_token = profile.step_base_seconds / profile.slots + profile.step_per_sequence_seconds
        for at, prefill, output in zip(
            self.trace.arrivals, self.trace.inputs, self.trace.outputs, strict=True
        ):
            context = profile.step_per_context_token_seconds * (prefill + output / 2)
            seconds = prefill / profile.prefill_tokens_per_second + output * (per_token + context)
            work[int(at // INTERVAL_SECONDS)] += seconds
        sizes = [ceil(seconds / INTERVAL_SECONDS) for seconds in work]
        # What began in one interval ends in the next.
        return [max(size, min(1, before)) for before, size in zip([0, *sizes], sizes, strict=False)]

    def _add_where_it_waited(self, sizes: list[int], outcome: Outcome, fleet: int) -> None:
        """Add to the intervals that hold most of the requests that waited too long."""
        missed = [0] * len(sizes)
        moments = outcome.moments(self.objective.on)
        for at, moment in zip(self.trace.arrivals, moments, strict=True):
            missed[int(at // INTERVAL_SECONDS)] += not 0 <= moment - at <= self.objective.seconds
        worst = sorted(range(len(sizes)), key=lambda i: -missed[i])
        over = sum(missed) - self._allowed
        for index in worst:
            if over <= 0:
                break
            over -= missed[index]
            step = max(1, sizes[index] // 4)
            sizes[index] = min(fleet, sizes[index] + step)

    def _between(self, sizes: Sequence[int], fleet: int) -> list[int]:
        """Return the least blend of these sizes and the fixed fleet that meets the objective."""
        low, high = 0.0, 1.0
        for _ in range(5):
            middle = (low + high) / 2
            if self.meets(self.timetable(_blend(sizes, fleet, middle))):
                high = middle
            else:
                low = middle
        return _blend(sizes, fleet, high)

    def _prune(self, sizes: list[int], runs: int) -> list[int]:
        """Take a worker away from runs of intervals, halving those that need theirs."""
        blocks = [range(len(sizes))]
        while blocks and runs:
            block = blocks.pop(0)
            fewer = [max(0, size - (i in block)) for i, size in enumerate(sizes)]
            if fewer == sizes:
                continue
            runs -= 1
            if self.meets(self.timetable(fewer)):
                sizes = fewer
                blocks.append(block)
            elif len(block) > 1:
                half = block.start + len(block) // 2
                blocks += [range(block.start, half), range(half, block.stop)]
        return sizes


def _blend(sizes: Sequence[int], fleet: int, share: float) -> list[int]:
    return [size + ceil((fleet - size) * share) for size in sizes]
