"""Whether a gain is more than what other seeds would have made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % points of Student's distribution for 1 to 9 degrees of freedom; of more the last serves, too strict by 0.3."""


def beyond_seeds(deltas: Sequence[float]) -> bool:
    """Whether differences, one a seed, all have one sign and a mean that their spread doesn't explain.

    |mean| > t s / sqrt(n), where s is the standard deviation over the n seeds and t Student's 97.5 % point for n - 1
    degrees of freedom: the 95 % interval of the mean leaves 0 out. With three seeds the mean must be 2.5 s, with two
    9 s. One seed shows no spread, so that it is never enough.

    Source: Student 1908, The Probable Error of a Mean, Biometrika 6(1); between seeds rather than rows as in Reimers
    and Gurevych 2018 (arXiv 1803.09578).
    """
    n = len(deltas)
    if n < 2 or len({math.copysign(1.0, delta) for delta in deltas if delta}) != 1 or not all(deltas):
        return False
    limit = _STUDENT[min(n - 1, len(_STUDENT)) - 1] * statistics.stdev(deltas) / math.sqrt(n)
    return abs(statistics.fmean(deltas)) > limit
