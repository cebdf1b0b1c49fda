"""How many connections it takes to see every endpoint, and whether counts fit exact shares."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

FALSE_ALARM: Final = 1e-6
"""Chance that a run in which all is right reports anything, over all its comparisons together (Bonferroni)."""


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Chance of a chi-square at least as large.

    Args:
        statistic: The sum of (seen - expected)² / expected.
        freedom: Degrees of freedom, at least 1.

    Closed forms for even and odd degrees: Abramowitz & Stegun 26.4.4, 26.4.5.
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    if freedom % 2:
        total = math.erfc(math.sqrt(half))
        first, count = 0.5, (freedom - 1) // 2
    else:
        total, first, count = 0.0, 0.0, freedom // 2
    for i in range(count):
        power = first + i
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(total, 1.0)


def fits(counts: Sequence[int], chances: Sequence[Fraction], bound: float) -> bool:
    """Whether counts of outcomes are no less likely than `bound` under their exact chances."""
    n = sum(counts)
    if len(counts) < 2 or not n:
        return True
    statistic = sum(
        (seen - n * float(chance)) ** 2 / (n * float(chance)) for seen, chance in zip(counts, chances, strict=True)
    )
    return chi_square_tail(statistic, len(counts) - 1) >= bound


def connections_to_see_all(chances: Sequence[Fraction], bound: float) -> int:
    """How many connections leave an outcome unseen with a chance below `bound`."""
    rarest = min((float(chance) for chance in chances if chance), default=1.0)
    if rarest >= 1.0:
        return 1
    return math.ceil(math.log(bound / len(chances)) / math.log1p(-rarest))
