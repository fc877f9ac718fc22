"""Gains over several seeds: their spread, and whether they are more than other seeds would have made of nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy import stats


def spread(deltas: Sequence[float]) -> dict[str, Any]:
    """Describe differences between two chains, one for each seed.

    deltas:  points, at least one
    returns: `mean`; `sd`, the standard deviation over seeds; `low` and `high`, the 95 % interval of the mean by
             Student's t; and `beyond`: whether all differences have one sign and the interval leaves 0 out. A single
             seed has no spread: sd, low and high are None, and it is never beyond.

    Source: Student 1908, The Probable Error of a Mean, Biometrika 6(1); between seeds rather than rows as in Reimers
    and Gurevych 2018 (arXiv 1803.09578).
    """
    mean, n = statistics.fmean(deltas), len(deltas)
    if n < 2:
        return {"mean": mean, "sd": None, "low": None, "high": None, "beyond": False}
    sd = statistics.stdev(deltas)
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    agree = all(delta > 0 for delta in deltas) or all(delta < 0 for delta in deltas)
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "beyond": agree and abs(mean) > half}


def beyond_seeds(deltas: Sequence[float]) -> bool:
    """Return whether differences, one for each seed, are more than other seeds would have made of nothing."""
    return bool(deltas) and bool(spread(deltas)["beyond"])
