"""The closed form of a worker equals an engine that computes every step."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.profile import EngineProfile
from planning.worker_model import EngineWork, Worker
from tests.support.stepping import Job, step_through

PROFILES = {
    "flat": EngineProfile(prefill_tokens_per_second=5_000, step_base_seconds=0.02, slots=64),
    "per_sequence": EngineProfile(
        prefill_tokens_per_second=20_000,
        step_base_seconds=0.01,
        step_per_sequence_seconds=0.0007,
        slots=64,
    ),
    "context": EngineProfile(
        prefill_tokens_per_second=15_000,
        step_base_seconds=0.028,
        step_per_sequence_seconds=0.0004,
        step_per_context_token_seconds=2.5e-7,
        slots=64,
    ),
    "tiny_context_term": EngineProfile(
        prefill_tokens_per_second=15_000,
        step_base_seconds=0.028,
        step_per_context_token_seconds=1e-14,
        slots=64,
    ),
    "little_memory": EngineProfile(
        prefill_tokens_per_second=15_000,
        step_base_seconds=0.01,
        step_per_sequence_seconds=0.0004,
        step_per_context_token_seconds=1e-6,
        slots=64,
        kv_tokens=3_000,
    ),
}

requests = st.lists(
    st.tuples(
        st.integers(0, 3_000).map(lambda ms: ms / 1000),
        st.integers(0, 2_000),
        st.integers(1, 200),
    ),
    min_size=1,
    max_size=40,
)


def drive(profile: EngineProfile, jobs: list[Job]) -> None:
    """Play jobs through a worker as the simulation does."""
    worker = Worker(0, profile)
    waiting = list(enumerate(jobs))
    while waiting or worker.due < inf:
        if waiting and waiting[0][1].at <= worker.due:
            number, job = waiting.pop(0)
            worker.claim(EngineWork(number, job.prefill, job.output), job.at)
            continue
        now = worker.due
        for number in worker.advance(now):
            jobs[number].end = now
        joined, first = worker.join(now)
        for number in joined:
            jobs[number].first = first
    assert worker.load == 0


@pytest.mark.parametrize("name", list(PROFILES))
@settings(max_examples=60, deadline=None)
@given(given_requests=requests)
def test_closed_form_equals_an_engine_that_steps(
    name: str, given_requests: list[tuple[float, int, int]]
) -> None:
    ordered = sorted(given_requests)
    if PROFILES[name].kv_tokens:
        ordered = [(at, min(prefill, 2_700), output) for at, prefill, output in ordered]
    stepped, driven = ([Job(*request) for request in ordered] for _ in range(2))

    step_through(PROFILES[name], stepped)
    drive(PROFILES[name], driven)

    for one, other in zip(stepped, driven, strict=True):
        assert other.first == pytest.approx(one.first, abs=1e-6)
        assert other.end == pytest.approx(one.end, abs=1e-6)


def test_drained_worker_hands_back_what_each_job_has_made() -> None:
    profile = EngineProfile(
        prefill_tokens_per_second=1_000, step_base_seconds=0.1, slots=4, claim_seconds=0
    )
    worker = Worker(0, profile)
    worker.claim(EngineWork(7, 100, 50), 0.0)
    worker.advance(worker.due)
    worker.join(0.0)
    worker.claim(EngineWork(8, 0, 50), 0.25)

    now = worker.due
    assert now == pytest.approx(0.3)  # prefill and a first step, one more begins at 0.2
    worker.advance(now)
    worker.join(now)
    handed = worker.hand_back(0.65)

    assert {(one.job, one.made) for one in handed} == {(7, 5), (8, 3)}
    assert worker.room == 4


def test_a_job_that_waits_for_memory_stops_further_claims() -> None:
    worker = Worker(0, PROFILES["little_memory"])
    worker.claim(EngineWork(1, 1_500, 1_000), 0.0)
    worker.claim(EngineWork(2, 1_500, 100), 0.0)
    worker.advance(worker.due)

    joined, _ = worker.join(0.0)

    assert joined == [1]
    assert worker.blocked
    ended = worker.advance(worker.due)
    assert ended == [1]
    assert worker.join(worker.due)[0] == [2]
    assert not worker.blocked
