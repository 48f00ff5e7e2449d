"""Win rate against a reference model, from one preference per instruction."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from maple.core.errors import MapleError


class WinRate(NamedTuple):
    n: int
    winrate: float
    standard_error: float


def win_rate(preferences: Sequence[float]) -> WinRate:
    """Mean preference (0 the reference's answer is better, 1 the model's, 0.5 a draw; judges may give values between).

    The standard error is that of the mean, with n - 1.
    What a judge could not decide must not be in the list: a missing preference is not a loss.

    >>> win_rate([1, 0, 0.5, 0.5])[:2]
    (4, 0.5)
    """
    if not preferences:
        raise MapleError(
            "no win rate", why="the judge gave no preference at all", do="read the judge's log, then run it again"
        )
    for preference in preferences:
        if not 0 <= preference <= 1:
            raise MapleError(f"a preference is {preference}", why="it must be between 0 and 1", do="mend the annotator")
    n = len(preferences)
    mean = math.fsum(preferences) / n
    variance = math.fsum((p - mean) ** 2 for p in preferences) / (n - 1) if n > 1 else 0.0
    return WinRate(n, mean, math.sqrt(variance / n))
