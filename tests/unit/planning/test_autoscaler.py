"""The planner's models of KEDA and the HPA behave as their documentation says."""

import itertools
from collections.abc import Sequence
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.autoscaler import Hpa, Keda
from planning.controllers import KedaController, Timetable
from planning.policy import SHIPPED, Behaviour, Policy
from tests.support.planning import policies

SLOTS = 10
WARM = SHIPPED.with_(name="warm", min_replicas=1, max_replicas=100)


def walk(policy: Policy, metrics: Sequence[float], start: int) -> list[tuple[float, int, float]]:
    """Let an HPA act every 15 s; returns (time, replicas afterwards, metric)."""
    hpa = Hpa(policy, SLOTS)
    replicas, seen = start, [(-1e9, start, 0.0)]
    for number, metric in enumerate(metrics):
        now = number * policy.sync_seconds
        replicas = hpa.sync(now, replicas, metric)
        seen.append((now, replicas, metric))
    return seen


def replicas_at(seen: Sequence[tuple[float, int, float]], when: float) -> int:
    """Return how many there were after everything up to `when`."""
    return next(replicas for at, replicas, _ in reversed(seen) if at <= when)


def raw_wish(policy: Policy, metric: float, replicas: int) -> int:
    target = policy.target * SLOTS
    if abs(metric / (target * replicas) - 1) <= policy.tolerance:
        desired = replicas
    else:
        desired = ceil(metric / target)
    return min(max(desired, 1, policy.min_replicas), policy.max_replicas)


@settings(max_examples=300, deadline=None)
@given(policy=policies(), metrics=st.lists(st.integers(0, 300), min_size=5, max_size=80))
def test_changes_keep_to_the_rates_and_windows(policy: Policy, metrics: list[int]) -> None:
    """Checks the history only: earlier sizes, and the desired sizes within each window."""
    seen = walk(policy, metrics, max(1, policy.min_replicas))
    desired_sizes = [
        (now, raw_wish(policy, metric, before))
        for (_, before, _), (now, _, metric) in itertools.pairwise(seen)
    ]
    for (_, before, _), (now, after, _) in itertools.pairwise(seen):
        assert max(1, policy.min_replicas) <= after <= policy.max_replicas
        if after > before:
            rule = policy.up
            base = replicas_at(seen, now - rule.period_seconds)
            assert after <= most(rule, base)
            assert all(
                w >= after for at, w in desired_sizes if now - rule.window_seconds < at <= now
            )
        if after < before:
            rule = policy.down
            base = replicas_at(seen, now - rule.period_seconds)
            assert after >= least(rule, base)
            assert all(
                w <= after for at, w in desired_sizes if now - rule.window_seconds < at <= now
            )


def most(rule: Behaviour, base: int) -> int:
    choices = [base + (rule.pods or 0)]
    if rule.percent:
        choices.append(ceil(base + base * rule.percent / 100))
    return max(choices)


def least(rule: Behaviour, base: int) -> int:
    choices = [base - (rule.pods or 0)]
    if rule.percent:
        choices.append(floor(base - base * rule.percent / 100))
    return min(choices)


def test_scale_up_doubles_or_adds_two_every_thirty_seconds() -> None:
    sizes = [replicas for _, replicas, _ in walk(WARM, [1_000] * 9, 1)]

    assert sizes == [1, 3, 3, 6, 6, 12, 12, 24, 24, 48]


def test_scale_down_halves_a_minute_after_five_minutes() -> None:
    metrics = [160.0] * 4 + [0.0] * 40
    seen = walk(WARM, metrics, 16)
    changes = [(at, size) for (_, old, _), (at, size, _) in itertools.pairwise(seen)
               if size != old]  # fmt: skip

    # 16 was last desired at 45 s; that counts for 300 s.
    assert changes == [(345, 8), (405, 4), (465, 2), (525, 1)]


@pytest.mark.parametrize(("metric", "wanted"), [(100, 10), (109, 10), (111, 12), (89, 9), (91, 10)])
def test_tolerance_of_a_tenth_keeps_the_size(metric: float, wanted: int) -> None:
    policy = WARM.with_(down=Behaviour(window_seconds=0, percent=100, period_seconds=15))

    assert Hpa(policy, SLOTS).sync(0, 10, metric) == wanted


def test_first_look_remembers_the_size_it_found() -> None:
    hpa = Hpa(WARM, SLOTS)

    assert hpa.sync(0, 8, 0) == 8  # as if 8 had just been desired
    assert hpa.sync(299, 8, 0) == 8
    assert hpa.sync(301, 8, 0) == 4


def test_keda_goes_to_zero_at_once_but_only_after_the_cool_down() -> None:
    keda = Keda(SHIPPED.with_(cooldown_seconds=300))

    assert keda.poll(10, 0, 1) == 1
    assert keda.poll(100, 7, 3) == 7
    assert keda.poll(399, 7, 0) == 7
    assert keda.poll(401, 7, 0) == 0


def test_activation_is_a_threshold_to_exceed() -> None:
    keda = Keda(SHIPPED.with_(activation=5))

    assert keda.poll(0, 0, 5) == 0
    assert keda.poll(5, 0, 6) == 1


def test_floor_above_zero_never_goes_to_zero() -> None:
    keda = Keda(SHIPPED.with_(min_replicas=2, cooldown_seconds=0))

    assert keda.poll(1_000, 2, 0) == 2


def test_hpa_leaves_an_empty_fleet_to_keda() -> None:
    policy = SHIPPED.with_(polling_seconds=1_000, sync_seconds=1)
    controller = KedaController(policy, SLOTS, seed=3)
    woken = 0
    while woken == 0:
        now = controller.next
        woken = controller.decide(now, 0, queued=500, running=0)

    assert woken == 1
    assert now > 15


def test_queue_only_metric_does_not_see_running_jobs() -> None:
    queue_only = SHIPPED.with_(metric="queued", min_replicas=1, sync_seconds=1,
                               polling_seconds=1_000)  # fmt: skip
    both = queue_only.with_(metric="queued+running")
    sizes = []
    for policy in (queue_only, both):
        controller = KedaController(policy, SLOTS, seed=1)
        sizes.append(controller.decide(controller.next, 1, queued=0, running=25))

    assert sizes == [1, 3]


def test_timetable_asks_early_and_lets_go_in_time() -> None:
    table = Timetable([1, 3, 1, 1], interval=60, lead=20)
    steps = []
    while table.next < 1_000:
        now = table.next
        steps.append((now, table.decide(now, 0, 0, 0)))

    assert table.initial == 1
    assert [(at, size) for at, size in steps if at in (40, 60, 120)] == [(40, 3), (60, 3), (120, 1)]
    assert all(size == 1 for at, size in steps if at > 120)
