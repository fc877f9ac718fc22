"""All chains of a pool in parts, what is believed of them and what they cost, and how their combinations are scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from tunexfer.search.chain_model import Array

FLOOR = 0.05
"""Cost added to every chain, as a share of what a chain costs from nothing: improvement per second is not defined for
chains that cost nothing."""
MAX_COMBINED = 200_000
"""Chains up to which all are compared; of more, the best settings are found target by target."""

Score = Callable[[Array, Array, Array, Array], Array]
"""Scores combinations by their mean, standard deviation, remaining seconds and safety; all of shape (N,)."""


@dataclass
class Candidates:
    """S stage recipes, and K settings of each of F families of targets."""

    means: list[Array]
    """Of each family its part of the expected objective, shape (S, K); where each target chooses its own chain, of the
    expected improvement."""
    sums: list[Array]
    """Of each family the sum of its targets' standard deviations, as parts of the objective."""
    squares: list[Array]
    """The sum of their variances."""
    seconds: list[Array]
    """That a family's jobs still take."""
    stage_seconds: Array
    """Shape (S,)."""
    correlation: float
    """Of errors for different targets of one chain."""
    safety: list[Array] | None = None
    """Logarithm of the chance that a family's targets keep the constraint; None without one."""

    def combined(self, score: Score) -> tuple[Array, NDArray[np.intp]]:
        """Score combinations of stages and settings: all, or the best settings after each stage and their neighbours.

        returns: scores, shape (N,), and for each the index of stages and of each family's settings, shape (N, 1 + F)
        """
        stages, counts = len(self.stage_seconds), [mean.shape[1] for mean in self.means]
        if stages * math.prod(counts) <= MAX_COMBINED:
            return self._scored(np.indices((stages, *counts)).reshape(1 + len(counts), -1), score)
        chosen = np.stack([np.arange(stages), *(mean.argmax(1) for mean in self.means)])
        tried: list[NDArray[np.intp]] = []
        for _ in range(2):
            tried = []
            for place, count in enumerate(counts, start=1):
                grid = np.repeat(chosen, count, axis=1)
                grid[place] = np.tile(np.arange(count), stages)
                chosen[place] = self._scored(grid, score)[0].reshape(stages, count).argmax(1)
                tried.append(grid)
        return self._scored(np.unique(np.concatenate([chosen, *tried], axis=1), axis=1), score)

    def _scored(self, grid: NDArray[np.intp], score: Score) -> tuple[Array, NDArray[np.intp]]:
        def total(parts: list[Array]) -> Array:
            return np.asarray(sum(part[grid[0], own] for part, own in zip(parts, grid[1:], strict=True)))

        apart, together = total(self.squares), total(self.sums) ** 2
        deviation = np.sqrt((1 - self.correlation) * apart + self.correlation * together)
        seconds = self.stage_seconds[grid[0]] + total(self.seconds)
        safety = np.zeros_like(seconds) if self.safety is None else total(self.safety)
        return score(total(self.means), deviation, seconds, safety), grid.T


def log_improvement(ahead: Array, deviation: Array) -> Array:
    """Compute the logarithm of the expected improvement of normal variables, far below the best as well.

    ahead:   mean minus the best so far

    Source: Ament et al. 2023 (arXiv 2310.20708), equation 9.
    """
    z = ahead / deviation
    low = np.minimum(z, -1.0)
    tail = math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2)) * -low
    below = -0.5 * low**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(1.0 - tail, 1e-12 / low**2))
    near = np.maximum(z, -1.0)
    above = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * ndtr(near))
    return np.asarray(np.log(deviation) + np.where(z > -1.0, above, below))
