"""An engine that computes every step: the reference for the planner's closed form."""

from dataclasses import dataclass

from planning.profile import EngineProfile


@dataclass
class Job:
    at: float  # handed to the engine
    prefill: int
    output: int
    first: float = -1.0
    end: float = -1.0
    made: int = 0


def step_through(profile: EngineProfile, jobs: list[Job]) -> None:
    """Compute the times of each job's first token and end. `jobs` are in order of `at`."""
    waiting = list(jobs)
    running: list[Job] = []
    now = 0.0
    while waiting or running:
        if not running:
            now = max(now, waiting[0].at)
        joined = []
        while waiting and waiting[0].at <= now + 1e-9 and _fits(profile, running, waiting[0]):
            joined.append(waiting.pop(0))
            running.append(joined[-1])
        context = sum(job.prefill + job.made for job in running)
        now += (
            sum(job.prefill for job in joined) / profile.prefill_tokens_per_second
            + profile.step_base_seconds
            + profile.step_per_sequence_seconds * len(running)
            + profile.step_per_context_token_seconds * context
        )
        for job in list(running):
            job.made += 1
            if job.made == 1:
                job.first = now
            if job.made == job.output:
                job.end = now
                running.remove(job)


def _fits(profile: EngineProfile, running: list[Job], job: Job) -> bool:
    if not profile.kv_tokens:
        return True
    held = sum(other.prefill + other.output for other in running)
    return held + job.prefill + job.output <= profile.kv_tokens
