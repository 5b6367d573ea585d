"""Each choice of a job has a seed of its own that every engine takes."""

import pytest

from workers.engines.base import choice_seed

MOST, LEAST = 2**63 - 1, -(2**63)


@pytest.mark.parametrize(
    ("seed", "index", "own"),
    [(7, 0, 7), (7, 3, 10), (-1, 1, 0), (MOST, 0, MOST), (MOST, 1, LEAST), (MOST, 2, LEAST + 1)],
)
def test_the_seeds_of_choices_wrap_within_64_bits(seed: int, index: int, own: int) -> None:
    assert choice_seed(seed, index) == own
