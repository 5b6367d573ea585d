"""Recommends a scaling target and cool-down for a model by a search over a grid.

Of the policies that meet the objective, the one with the fewest GPU hours is best; if none meets
it, the one with the largest share of requests within the limit, and of equal ones the cheaper.
The times at which KEDA and the HPA act are random, so the recommended policy met the objective
with PHASES different phases, if any policy did.
Invariant: the recommended policy was simulated in full, with the settings it is printed with.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planning.controllers import KedaController
from planning.oracle import Planner
from planning.outcome import Objective, StudyOutcome
from planning.policy import Policy

TARGETS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
COOLDOWNS = (60.0, 300.0, 900.0)
PHASES = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that was tried, and its outcome."""

    policy: Policy
    outcome: StudyOutcome

    def rank(self, objective: Objective) -> tuple[bool, float, float]:
        """Return a sort key; the smallest is the best."""
        share = self.outcome.within(objective)
        if self.outcome.meets(objective):
            return (False, self.outcome.gpu_hours, -share)
        return (True, -share, self.outcome.gpu_hours)


def grid(base: Policy, slots: int, fleet: int | None) -> Iterator[Policy]:
    """Yield the policies to try: `base` with other targets, minimum sizes and cool-downs.

    The minimum sizes go up to the fixed fleet; a cool-down only matters if the minimum is zero.
    """
    floors = {0, 1, 2, base.min_replicas}
    if fleet is not None:
        floors |= {(fleet + 1) // 2, fleet - 1, fleet}
    for floor in sorted(floor for floor in floors if 0 <= floor <= base.max_replicas):
        for share in sorted({max(1, round(share * slots)) / slots for share in TARGETS}):
            for cooldown in COOLDOWNS if floor == 0 else (base.cooldown_seconds,):
                yield base.with_(
                    name=f"target {share * slots:.0f}, floor {floor}, cool-down {cooldown:.0f} s",
                    target=share,
                    min_replicas=floor,
                    cooldown_seconds=cooldown,
                )


def recommend(
    planner: Planner,
    base: Policy,
    fleet: int | None,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Candidate]:
    """Return every policy that was tried, the best first.

    Args:
        planner: Runs the trace.
        base: The policy whose other settings are kept.
        fleet: The size of the smallest fixed fleet that meets the objective, if there is one.
        seed: Sets the phases of KEDA and the HPA.
        progress: Called with the number of finished runs and of all.
    """
    policies = list(grid(base, planner.profile.slots, fleet))
    tried = []
    for done, policy in enumerate(policies):
        progress(done, len(policies))
        controller = KedaController(policy, planner.profile.slots, seed)
        tried.append(Candidate(policy, planner.run(controller)))
    ranked = sorted(tried, key=lambda candidate: candidate.rank(planner.objective))
    steady = next((one for one in ranked if _is_steady(planner, one, seed)), ranked[0])
    return [steady, *(one for one in ranked if one is not steady)]


def _is_steady(planner: Planner, tried: Candidate, seed: int) -> bool:
    """Return whether the policy meets the objective with several phases of KEDA and the HPA."""
    slots = planner.profile.slots
    return tried.outcome.meets(planner.objective) and all(
        planner.meets(KedaController(tried.policy, slots, seed + phase))
        for phase in range(1, PHASES)
    )
