"""Paired statistics over the rows that two chains predicted: bootstrap intervals and random exchange tests.

Letters in shapes: C clusters, L languages, S seeds, K sums that a metric is made of, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunexfer.report.row_sums import Score
from tunexfer.tasks.metrics.metric import Array

RESAMPLES = 10_000
LEVEL = 0.95
_AT_ONCE = 2**21
"""Numbers in the largest array held at a time."""
_ALIKE = 1e-9
"""Points: differences this close are equal, whatever order they were summed in."""

Hashes = NDArray[np.uint64]
Name = TypeVar("Name", bound=Hashable)
"""A language, or a target and a language."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The rows of two chains, summed by cluster: of one language, or of several (stacked) with the same clusters."""

    clusters: NDArray[Any]
    """Shape (C,), without repeats: template, parallel id, a passage's first question, or the row's own id."""
    after: Array
    """Shape (C, K, S), stacked (C, K, S, L)."""
    before: Array
    """The same rows of the other chain, in the same shape."""
    score: Score

    @property
    def delta(self) -> Array:
        """Points, the mean over seeds; shape () or (L,)."""
        deltas: Array = (self.score(self.after.sum(axis=0)) - self.score(self.before.sum(axis=0))).mean(axis=0)
        return deltas

    def resampled(self, weights: Array) -> Array:
        """Compute each seed's difference with clusters repeated by `weights`, shape (R, C): shape (R, S) or (R, S, L).

        The order of a stacked axis is kept: seeds come before languages.
        """
        scores = self.score(_weighted(weights, np.stack([self.after, self.before], axis=2)))
        deltas: Array = scores[:, 0] - scores[:, 1]
        return deltas

    def exchanged(self, flips: Array) -> Array:
        """Compute the difference with the chains swapped in the clusters where `flips`, shape (R, C), is 1."""
        moved = _weighted(flips, self.after - self.before)
        after, before = (side.sum(axis=0)[:, None] for side in (self.after, self.before))
        means: Array = (self.score(after - moved) - self.score(before + moved)).mean(axis=1)
        return means


def _weighted(weights: Array, sums: Array) -> Array:
    """Add up the clusters' sums, shape (C, K, ...), by weights, shape (R, C): shape (K, R, ...)."""
    added = (weights @ sums.reshape(len(sums), -1)).reshape(len(weights), *sums.shape[1:])
    return np.moveaxis(added, 1, 0)


@dataclass(frozen=True)
class Draws:
    """A difference between two chains and its resampling distributions."""

    delta: float
    """Points."""
    resampled: Array
    """Shape (R, S): each seed's difference, with resampled rows."""
    exchanged: Array
    """Shape (R,): with rows exchanged at random, as under the null hypothesis."""
    clusters: int
    """Independent groups of rows."""

    @property
    def rows(self) -> float:
        """Variance through the sample of rows: with several seeds the part that all seeds share.

        What rows do to each seed by itself is in the variance between seeds already.
        """
        whole = self.resampled[np.isfinite(self.resampled).all(axis=1)]
        seeds = int(self.resampled.shape[1])
        if len(whole) < 2:
            return math.nan
        covariance = np.cov(whole, rowvar=False).reshape(seeds, seeds)
        if seeds == 1:
            return float(covariance[0, 0])
        off_diagonal = float(covariance.sum() - covariance.trace())
        return max(0.0, off_diagonal / (seeds * (seeds - 1)))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % percentile interval of the paired bootstrap over rows alone, in points.

        Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3; paired by row as in Koehn
        2004 (Statistical significance tests for machine translation evaluation); clusters drawn whole as in Davison and
        Hinkley 1997, section 3.8.
        """
        tail = 100 * (1 - LEVEL) / 2
        low, high = np.nanpercentile(self.resampled.mean(axis=1), [tail, 100 - tail])
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided p-value of approximate randomisation, (1 + hits) / (1 + R).

        Under the null hypothesis the two chains' rows in a cluster are exchangeable, so the test needs neither
        normality nor many clusters.

        Source: Noreen 1989, Computer-Intensive Methods for Testing Hypotheses, chapter 2; the added ones are from
        Phipson and Smyth 2010 (arXiv 1603.05766).
        """
        hits = int((np.abs(self.exchanged) >= abs(self.delta) - _ALIKE).sum())
        return (1 + hits) / (1 + len(self.exchanged))


def draw(languages: Mapping[Name, Sums], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[Name, Draws]:
    """Resample the clusters of one or several targets, with the same draws for all languages and targets.

    A cluster that several languages share is drawn in all of them or in none, so `mean_draws` keeps their correlation.
    """
    if not languages:
        return {}
    codes, names = pd.factorize(np.concatenate([sums.clusters for sums in languages.values()]))
    ends = np.cumsum([len(sums.clusters) for sums in languages.values()])
    places = dict(zip(languages, np.split(codes, ends[:-1]), strict=True))
    stacks = _stacks(languages, places)
    resampled = {name: np.empty((resamples, sums.after.shape[2])) for name, sums in languages.items()}
    exchanged = {name: np.empty(resamples) for name in languages}
    rng = np.random.default_rng(seed)
    size = max(1, _AT_ONCE // max(len(names), *(2 * stack.after[0].size for _, stack in stacks)))
    for start in range(0, resamples, size):
        part = slice(start, min(start + size, resamples))
        shape = (part.stop - start, len(names))
        weights = _multinomial(rng, *shape)
        flips = rng.integers(0, 2, size=shape, dtype=np.int8).astype(np.float64)
        for members, stack in stacks:
            place = places[members[0]]
            drawn = stack.resampled(weights[:, place]), stack.exchanged(flips[:, place])
            for at, name in enumerate(members):
                resampled[name][part], exchanged[name][part] = drawn[0][..., at], drawn[1][:, at]
    return {
        name: Draws(float(sums.delta), resampled[name], exchanged[name], len(sums.clusters))
        for name, sums in languages.items()
    }


def _stacks(languages: Mapping[Name, Sums], places: Mapping[Name, NDArray[np.intp]]) -> list[tuple[list[Name], Sums]]:
    """Stack languages with the same clusters and metric, so that one matrix product serves all of them."""
    groups: dict[object, list[Name]] = {}
    for name, sums in languages.items():
        groups.setdefault((places[name].tobytes(), sums.score, sums.after.shape), []).append(name)
    return [
        (
            members,
            Sums(
                clusters=languages[members[0]].clusters,
                after=np.stack([languages[name].after for name in members], axis=-1),
                before=np.stack([languages[name].before for name in members], axis=-1),
                score=languages[members[0]].score,
            ),
        )
        for members in groups.values()
    ]


def _multinomial(rng: np.random.Generator, draws: int, clusters: int) -> Array:
    """Count how often each cluster is drawn when as many are drawn as there are, shape (draws, clusters).

    Counting drawn positions is several times as fast as `rng.multinomial` with equal probabilities.
    """
    positions = rng.integers(0, clusters, size=(draws, clusters))
    positions += clusters * np.arange(draws)[:, None]
    return np.bincount(positions.ravel(), minlength=draws * clusters).reshape(draws, clusters).astype(np.float64)


def mean_draws(parts: Sequence[Draws]) -> Draws:
    """Average several differences and, draw by draw, their distributions."""
    with np.errstate(invalid="ignore"):
        return Draws(
            float(np.mean([part.delta for part in parts])),
            np.nanmean([part.resampled for part in parts], axis=0),
            np.mean([part.exchanged for part in parts], axis=0),
            max(part.clusters for part in parts),
        )
