"""Bounds: those of a user and a key combine to the narrower, and only who set one lifts it."""

from typing import Any

import pytest

from accounts.bounds import Rank, bounds_set, networks_within, tighter, within
from accounts.caller import Limits
from core.errors import Forbidden

NOW: dict[str, Any] = {"models": ["a"], "networks": None, "max_queued": 5, "role": "viewer"}


def test_a_bound_is_lifted_by_the_rank_that_set_it_and_by_higher_ones() -> None:
    before = {"models": int(Rank.ADMIN)}
    with pytest.raises(Forbidden, match="set by an admin") as refused:
        bounds_set(NOW, before, {"models": None}, Rank.USER)
    assert refused.value.param == "models"
    assert bounds_set(NOW, before, {"models": None}, Rank.ADMIN) == {}
    assert bounds_set(NOW, before, {"models": ["b"]}, Rank.OPERATOR) == {"models": Rank.OPERATOR}
    with pytest.raises(Forbidden, match="set by an operator"):
        bounds_set(NOW, {"max_queued": int(Rank.OPERATOR)}, {"max_queued": 0}, Rank.ADMIN)


def test_who_repeats_a_value_takes_it_over_from_lower_ranks_alone() -> None:
    before = {"models": int(Rank.ADMIN)}
    assert bounds_set(NOW, before, {"models": ["a"]}, Rank.USER) == before
    assert bounds_set(NOW, None, {"models": ["a"]}, Rank.ADMIN) == before
    assert bounds_set(NOW, None, {"networks": None}, Rank.ADMIN) == {}


def test_a_user_sets_and_lifts_bounds_of_its_own() -> None:
    assert bounds_set(NOW, None, {"models": None, "networks": ["10.0.0.0/8"]}, Rank.USER) == {}


@pytest.mark.parametrize(
    ("own", "user", "both"),
    [
        (None, None, None),
        (["b", "a"], None, ["a", "b"]),
        (None, ["a"], ["a"]),
        (["a", "b"], ["b", "c"], ["b"]),
        (["a"], ["b"], []),
    ],
)
def test_a_scope_is_what_key_and_user_both_allow(own: Any, user: Any, both: Any) -> None:
    assert within(own, user) == both


@pytest.mark.parametrize(
    ("own", "user", "both"),
    [
        (None, None, None),
        (None, ["10.0.0.0/8"], ("10.0.0.0/8",)),
        (["10.1.0.0/16", "192.0.2.0/24"], ["10.0.0.0/8"], ("10.1.0.0/16",)),
        (["10.0.0.0/8"], ["10.1.0.0/16", "10.2.0.0/16"], ("10.1.0.0/16", "10.2.0.0/16")),
        (["10.0.0.0/8"], ["2001:db8::/32"], ()),
        (["2001:db8::/32"], ["2001:db8:1::/48"], ("2001:db8:1::/48",)),
    ],
)
def test_networks_are_those_within_both(own: Any, user: Any, both: Any) -> None:
    assert networks_within(own, user) == both


def test_of_two_limits_the_lower_one_holds_and_none_is_none() -> None:
    key = Limits(requests_per_minute=5, max_running=9)
    user = Limits(requests_per_minute=7, max_running=2, max_queued=3)
    assert tighter(key, user) == Limits(requests_per_minute=5, max_running=2, max_queued=3)
