"""The gain that a number of seeds can detect, before anything is trained: from the usual spread between runs."""

from __future__ import annotations

import math
from statistics import NormalDist

USUAL_SD = 1.5
"""Standard deviation, in points, of a difference of two runs with one seed, averaged over a target's unseen languages:
1 to 2 where these are many, more where they are few."""
MOST_SEEDS = 30
_POWER, _LEVEL = 0.8, 0.05


def detectable(seeds: int, sd: float = USUAL_SD) -> float:
    """Compute the smallest true gain that `seeds` runs call significant in four of five studies, points; inf for one.

    The sum of two quantiles of Student's t, (t(1 - level / 2) + t(power)) sd / sqrt(seeds), approximates the
    non-central t (Julious 2010, Sample Sizes for Clinical Trials, section 3.3); the noise of the scored rows comes on
    top.
    """
    if seeds < 2:
        return math.inf
    return (_t(1 - _LEVEL / 2, seeds - 1) + _t(_POWER, seeds - 1)) * sd / math.sqrt(seeds)


def seeds_to_detect(points: float, sd: float = USUAL_SD) -> int:
    """Find the fewest seeds that detect a gain of so many points; `MOST_SEEDS` where even these don't."""
    return next((seeds for seeds in range(2, MOST_SEEDS) if detectable(seeds, sd) <= points), MOST_SEEDS)


def _t(share: float, df: int) -> float:
    """Compute a quantile of Student's t, exact for 1 and 2 degrees of freedom; scipy would cost `plan` a second.

    Source: Hill 1970, Algorithm 396: Student's t-quantiles, CACM 13(10), here its expansion from the normal quantile
    by Cornish and Fisher, Abramowitz and Stegun 26.7.5.
    """
    if df == 1:
        return math.tan(math.pi * (share - 0.5))
    if df == 2:
        alpha = 4 * share * (1 - share)
        return 2 * (share - 0.5) * math.sqrt(2 / alpha)
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / math.pow(df, power + 1) for power, term in enumerate(terms))
