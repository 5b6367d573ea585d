"""Which target and cool-down a model should get: a search over a grid.

The objective: of all policies with which at least `objective.share` of the requests come to
their first token (or claim) within `objective.seconds`, the one that pays for the fewest GPU
hours; where none does, the one with which most requests do, and of equal ones the cheaper.
KEDA and the HPA look at moments nobody chooses, so what is recommended met the objective at
PHASES different ones, where anything did.
Invariant: what is recommended was simulated in full, with the settings it is printed with.
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
class Tried:
    """A policy and what came of it."""

    policy: Policy
    outcome: StudyOutcome

    def rank(self, objective: Objective) -> tuple[bool, float, float]:
        """Return a key: the smallest is the best."""
        share = self.outcome.within(objective)
        if self.outcome.meets(objective):
            return (False, self.outcome.gpu_hours, -share)
        return (True, -share, self.outcome.gpu_hours)


def grid(base: Policy, slots: int, fleet: int | None) -> Iterator[Policy]:
    """Yield what is tried: `base` with other targets, floors and cool-downs.

    The floors go up to the fixed fleet; a cool-down only matters where the floor is zero.
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
) -> list[Tried]:
    """Return everything tried, the best first."""
    policies = list(grid(base, planner.profile.slots, fleet))
    tried = []
    for done, policy in enumerate(policies):
        progress(done, len(policies))
        controller = KedaController(policy, planner.profile.slots, seed)
        tried.append(Tried(policy, planner.run(controller)))
    ranked = sorted(tried, key=lambda one: one.rank(planner.objective))
    steady = next((one for one in ranked if _is_steady(planner, one, seed)), ranked[0])
    return [steady, *(one for one in ranked if one is not steady)]


def _is_steady(planner: Planner, tried: Tried, seed: int) -> bool:
    """Say whether the policy meets the objective whenever KEDA and the HPA look."""
    slots = planner.profile.slots
    return tried.outcome.meets(planner.objective) and all(
        planner.meets(KedaController(tried.policy, slots, seed + phase))
        for phase in range(1, PHASES)
    )
