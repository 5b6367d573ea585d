"""The fit finds the parameters that made the run times."""

import random

import pytest

from planning.calibration import MeasuredJob, Point, design, fastest_round, fit
from planning.errors import CannotFit
from planning.profile import EngineProfile
from tests.support.stepping import Job, step_through

START = EngineProfile(prefill_tokens_per_second=1, step_base_seconds=1, slots=32)
ENGINES = {
    "fast": (50_000.0, 0.004, 0.00005, 0.0),
    "large": (15_000.0, 0.028, 0.0002, 5e-8),
    "long context": (4_000.0, 0.012, 0.0005, 1e-6),
}


def measured(
    engine: tuple[float, float, float, float], noise: float, overhead: float = 0.003
) -> list[list[MeasuredJob]]:
    """Run the design on an engine that makes every step, with jobs that start a little apart."""
    prefill, base, per_sequence, per_context = engine
    profile = EngineProfile(
        prefill_tokens_per_second=prefill,
        step_base_seconds=base,
        step_per_sequence_seconds=per_sequence,
        step_per_context_token_seconds=per_context,
        slots=32,
    )
    chance = random.Random(4)
    return [_run(point, profile, chance, noise, overhead) for point in design(32, 4_096)]


def _run(
    point: Point, profile: EngineProfile, chance: random.Random, noise: float, overhead: float
) -> list[MeasuredJob]:
    jobs = [Job(0.002 * n, point.prompt, point.output) for n in range(point.jobs)]
    step_through(profile, jobs)
    return [
        MeasuredJob(
            1_000.0 + job.at,
            (job.end - job.at + overhead) * (1 + chance.uniform(-noise, noise)),
            job.prefill,
            job.output,
        )
        for job in jobs
    ]


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.01), (0.02, 0.08)])
def test_known_parameters_are_recovered(name: str, noise: float, within: float) -> None:
    prefill, base, per_sequence, per_context = ENGINES[name]

    found = fit(measured(ENGINES[name], noise), START)

    profile = found.profile
    assert profile.prefill_tokens_per_second == pytest.approx(prefill, rel=within)
    assert profile.step_base_seconds == pytest.approx(base, rel=within)
    fitted = profile.step_per_sequence_seconds, profile.step_per_context_token_seconds
    full = base + 32 * (per_sequence + 1_000 * per_context)
    assert base + 32 * (fitted[0] + 1_000 * fitted[1]) == pytest.approx(full, rel=within)
    if not noise:
        assert fitted == pytest.approx((per_sequence, per_context), rel=0.03, abs=1e-10)
    assert found.median_error <= noise + 0.002
    assert profile.fit_error == pytest.approx(found.median_error, abs=1e-6)
    assert (profile.slots, profile.name) == (START.slots, START.name)


def test_no_parameter_is_negative_whatever_was_measured() -> None:
    shrinking = [
        [MeasuredJob(0.0, 1.0 / len(point), 10 + n, 20) for n, _ in enumerate(point)]
        for point in ([0], [0, 0], [0, 0, 0, 0])
    ]

    profile = fit(shrinking, START).profile

    assert profile.step_per_sequence_seconds >= 0
    assert profile.step_per_context_token_seconds >= 0


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[MeasuredJob(0, 1, 10, 10)]] * 3, "3 measured jobs cannot fix 5"),
        ([[MeasuredJob(0, 1, 10, 10)]] * 9, "several prompt lengths and several concurrencies"),
    ],
)
def test_measurements_that_fix_nothing_are_refused(
    points: list[list[MeasuredJob]], message: str
) -> None:
    with pytest.raises(CannotFit, match=message):
        fit(points, START)


@pytest.mark.parametrize(("slots", "context"), [(1, 180), (5, 2_048), (64, 131_072)])
def test_design_fits_the_engine(slots: int, context: int) -> None:
    points = design(slots, context)

    assert all(1 <= point.jobs <= slots for point in points)
    assert all(point.prompt + point.output <= context for point in points)
    assert max(point.jobs for point in points) == slots
    assert len({point.prompt for point in points}) >= 2


def test_context_too_short_for_the_design_is_refused() -> None:
    with pytest.raises(CannotFit, match="context of 64 tokens is too short to make 96"):
        design(4, 64)


def test_quietest_round_counts() -> None:
    slow, quick = ([MeasuredJob(0.0, seconds, 16, 96)] * 2 for seconds in (1.4, 1.1))

    assert fastest_round([slow, quick, slow]) == quick
