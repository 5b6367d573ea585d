"""The result of a measurement: a figure, its targets, and what it was compared with."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: The measurement's name.
        figure: The measured value, in `unit`.
        must: The value that must be reached.
        aim: The value to aim for.
        higher: Whether a higher value is better.
        compared_with: The other side of the comparison.
        details: The values of both sides.
    """

    name: str
    figure: float
    unit: str
    must: float
    aim: float
    higher: bool
    compared_with: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the figure is as good as `must` or better."""
        return self.figure >= self.must if self.higher else self.figure <= self.must

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of `--json`."""
        return {**asdict(self), "reached": self.reached}


Side = Callable[[], Awaitable[float]]


async def interleaved(rounds: int, **sides: Side) -> dict[str, list[float]]:
    """Measure all sides in turns; every other round in reverse order, so that drift cancels."""
    results: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides.items())
        for name, side in order if number % 2 == 0 else reversed(order):
            results[name].append(await side())
    return results


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Return the median of the ratios of each round."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def rounded(values: list[float], digits: int = 1) -> list[float]:
    """Return the values rounded for output."""
    return [round(value, digits) for value in values]
