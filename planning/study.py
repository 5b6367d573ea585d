"""A study: the cost and service level of several policies on one trace, side by side.

The smallest fixed fleet that meets the objective and the oracle are included for comparison.
Invariant: every row ran on the same requests, engine and objective.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from planning.controllers import KedaController, Timetable
from planning.oracle import Planner
from planning.outcome import StudyOutcome
from planning.policy import Policy
from planning.search import Candidate, recommend

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _all: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One fleet of a study; `policy` is None for the fixed fleet and the oracle."""

    name: str
    outcome: StudyOutcome
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """The rows of a study, and the policies tried for a recommendation, the best first."""

    planner: Planner
    rows: Sequence[StudyRow]
    fleet: int | None
    tried: Sequence[Candidate] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        objective = self.planner.objective
        found: dict[str, Any] = {
            "trace": {
                "requests": len(self.planner.trace),
                "seconds": round(self.planner.trace.seconds, 3),
                "tokens": self.planner.trace.tokens,
            },
            "engine": self.planner.profile.model_dump(),
            "objective": {
                "on": objective.on,
                "seconds": objective.seconds,
                "share": objective.share,
                "gpu_hour_cost": str(objective.gpu_hour_cost),
            },
            "runs": [
                {
                    "name": row.name,
                    "policy": row.policy.model_dump() if row.policy else None,
                    **row.outcome.as_dict(objective),
                }
                for row in self.rows
            ],
        }
        if self.tried:
            best = self.tried[0]
            found["recommended"] = {
                "policy": best.policy.model_dump(),
                "target_metric": round(best.policy.target * self.planner.profile.slots),
                "cooldown_seconds": best.policy.cooldown_seconds,
                "tried": len(self.tried),
                **best.outcome.as_dict(objective),
            }
        return found


def run_study(
    planner: Planner,
    policies: Sequence[Policy],
    seed: int,
    *,
    recommending: bool = False,
    progress: Progress = silent,
) -> Study:
    """Simulate every fleet of a study.

    Args:
        planner: Runs the trace.
        policies: The policies to compare.
        seed: Sets the phases of KEDA and the HPA.
        recommending: Whether to search for the best policy as well.
        progress: Called with the step's name, the finished runs and all runs.
    """
    rows = []
    for done, policy in enumerate(policies):
        progress(policy.name, done, len(policies))
        rows.append(StudyRow(policy.name, _run(planner, policy, seed), policy))
    most = max(policy.max_replicas for policy in policies)
    progress("fixed fleet", 0, 1)
    fleet = planner.fixed(most)
    if fleet is not None:
        rows.append(StudyRow(f"fixed fleet of {fleet}", planner.run(Timetable([fleet]))))
        progress("oracle", 0, 1)
        sizes = planner.oracle(fleet)
        rows.append(StudyRow("oracle", planner.run(planner.timetable(sizes))))
    tried: Sequence[Candidate] = ()
    if recommending:
        base = next((policy for policy in policies if policy.kind == "keda"), policies[0])
        tried = recommend(
            planner, base, fleet, seed, lambda done, every: progress("grid", done, every)
        )
        rows.insert(
            len(policies), StudyRow(tried[0].policy.name, tried[0].outcome, tried[0].policy)
        )
    return Study(planner, rows, fleet, tried)


def _run(planner: Planner, policy: Policy, seed: int) -> StudyOutcome:
    if policy.kind == "fixed":
        return planner.run(Timetable([policy.min_replicas]))
    return planner.run(KedaController(policy, planner.profile.slots, seed))
