"""The oracle: the cost of a fleet that knows the future, and of the smallest fixed fleet.

The oracle's timetable has a size per interval. It follows the arriving work, multiplied by the
smallest factor that meets the objective, and then removes workers that are not needed. Each worker
is requested early enough to serve when it is needed. This finds a good timetable within a fixed
number of runs; it does not prove that it is the smallest.
Invariant: both fleets meet the objective, or no fleet of `most` workers does.
"""

from collections.abc import Sequence
from math import ceil

from core.settings.queue import QueueSettings
from planning.controllers import Controller, Timetable
from planning.outcome import Objective, StudyOutcome
from planning.profile import EngineProfile
from planning.simulation import Simulation, SimulationBounds
from planning.trace import Trace

INTERVAL_SECONDS = 60.0
#: Work is summed over windows this short, so that a burst within a minute is seen.
WINDOW_SECONDS = 5.0
DOUBLINGS, HALVINGS = 4, 5
#: How many requests all runs of the pruning may simulate together; it bounds the time.
BUDGET_REQUESTS = 250_000
LEAST_RUNS, MOST_RUNS = 8, 40


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

    def run(self, controller: Controller) -> StudyOutcome:
        """Simulate the whole trace."""
        return Simulation(self.trace, self.profile, controller, self._queue).run()

    def meets(self, controller: Controller) -> bool:
        """Return whether the objective is met; stop early once it cannot be met."""
        bounds = SimulationBounds(self.objective.seconds, self._allowed, self.objective.on)
        outcome = Simulation(self.trace, self.profile, controller, self._queue, bounds).run()
        return outcome.meets(self.objective)

    def fixed(self, most: int) -> int | None:
        """Return the smallest fixed fleet that meets the objective; None if `most` does not."""
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
        """Return sizes per interval that meet the objective.

        Args:
            fleet: The size of a fixed fleet that meets it.
        """
        peaks = self._peaks()
        low, high = 0.0, 1.0
        for _ in range(DOUBLINGS):
            if self.meets(self.timetable(_sizes(peaks, high))):
                break
            low, high = high, high * 2
        else:
            return [fleet] * len(peaks)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.meets(self.timetable(_sizes(peaks, middle))):
                high = middle
            else:
                low = middle
        runs = max(LEAST_RUNS, min(MOST_RUNS, BUDGET_REQUESTS // len(self.trace)))
        return self._prune(_sizes(peaks, high), runs)

    def timetable(self, sizes: Sequence[int]) -> Timetable:
        """Return the controller that follows these sizes."""
        return Timetable(sizes, INTERVAL_SECONDS, self.profile.start_seconds)

    def _peaks(self) -> list[float]:
        """Return per interval how many workers its busiest window keeps busy."""
        profile, trace = self.profile, self.trace
        work = [0.0] * (int(trace.seconds // WINDOW_SECONDS) + 1)
        per_token = profile.step_base_seconds / profile.slots + profile.step_per_sequence_seconds
        for at, prefill, output in zip(trace.arrivals, trace.inputs, trace.outputs, strict=True):
            context = profile.step_per_context_token_seconds * (prefill + output / 2)
            seconds = prefill / profile.prefill_tokens_per_second + output * (per_token + context)
            work[int(at // WINDOW_SECONDS)] += seconds
        windows = int(INTERVAL_SECONDS / WINDOW_SECONDS)
        starts = range(0, len(work), windows)
        return [max(work[start : start + windows]) / WINDOW_SECONDS for start in starts]

    def _prune(self, sizes: list[int], runs: int) -> list[int]:
        """Remove a worker from blocks of intervals; halve the blocks that need theirs."""
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


def _sizes(peaks: Sequence[float], share: float) -> list[int]:
    """Return workers per interval; at least one stays for work that began before."""
    sizes = [ceil(peak * share) for peak in peaks]
    return [max(size, min(1, before)) for before, size in zip([0, *sizes], sizes, strict=False)]
