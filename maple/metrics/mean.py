"""Means as the tables have them."""

from collections.abc import Iterable
from decimal import Decimal


def mean(values: Iterable[float], digits: int = 12) -> float:
    """The unweighted mean, computed in decimals and rounded in decimals too (1/3 has no end).

    Binary floats would round some means the other way: (.75 + .90 + .69 + .85 + .67 + .25) / 6 is .685, not .68499...

    >>> mean([0.75, 0.9, 0.69, 0.85, 0.67, 0.25])
    0.685
    """
    numbers = [Decimal(repr(value)) for value in values]
    return float(round(sum(numbers) / len(numbers), digits))
