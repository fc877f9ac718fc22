"""A model of what chains score: one Gaussian process per target, over the stages and the target's own settings.

A score is modelled as a sum of effects: of each choice of the stages, of the stages as a whole, of each setting of the
target, of its settings as a whole, of stages and settings together, and noise. How large each kind of effect is (its
variance) is learnt from all targets at once; the effects themselves are each target's own.

Shapes: S stage recipes, K settings of one target, n observations of it, G features of stage recipes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
Feature = float | str | Mapping[str, float]
"""A number on a scale where 1 is a large difference, a category, or shares of several names."""
Features = Mapping[str, Feature]
Described = Mapping[Hashable, Features]
"""Stage recipes, or settings of a target, by keys of the caller's."""

MAX_OBSERVED = 400
"""Observations that a target's model keeps: the better half by score, the other half by time."""
MAX_FITTED = 80
"""Observations of each target from which the sizes of effects are learnt."""
USUAL_SPREAD = 3.0
"""Standard deviation of a target's scores, in points, as assumed while there are fewer than `ENOUGH` of them."""
ENOUGH = 3
NUMBER_SCALE, SHARES_SCALE = 0.5, 0.35
"""Length scales of numbers and of shares, whose largest distance is 1."""
MAIN, WHOLE, BOTH, NOISE = 0.3, 0.3, 0.05, 0.05
"""Variances of effects on standardised scores as assumed beforehand: of a single choice, of stages or settings as a
whole, of both together, and of noise."""
SIZES_SD = 1.0
"""Standard deviation of the logarithms of these variances, as assumed beforehand."""
CORRELATION, CORRELATION_PAIRS = 0.3, 10.0
"""Correlation of the model's errors for two targets of one chain as assumed beforehand, and the number of observed
pairs that this assumption weighs as much as."""


class _Similarity(NamedTuple):
    """The similarity of some recipes to others."""

    main: Array
    """By one feature each; shape (G, rows, columns)."""
    main_own: Array
    """Of each row to itself; shape (G, rows)."""
    whole: Array
    """By all features at once, 1 of a recipe to itself; shape (rows, columns)."""

    @classmethod
    def between(cls, rows: Sequence[Features], columns: Sequence[Features], names: Sequence[str]) -> _Similarity:
        """Compare recipes by the features of these names."""
        main = np.zeros((len(names), len(rows), len(columns)))
        main_own = np.zeros((len(names), len(rows)))
        whole = np.ones((len(rows), len(columns)))
        for place, name in enumerate(names):
            vectors, numeric = _vectors([features.get(name) for features in (*rows, *columns)])
            left, right = vectors[: len(rows)], vectors[len(rows) :]
            squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None, :] - 2 * left @ right.T
            near = np.exp(-np.maximum(squares, 0.0) / (2 * (NUMBER_SCALE if numeric else SHARES_SCALE) ** 2))
            main[place] = near if numeric else 2 * left @ right.T
            main_own[place] = 1.0 if numeric else 2 * (left**2).sum(1)
            whole *= near
        return cls(main, main_own, whole)


def _vectors(values: Sequence[Feature | None]) -> tuple[Array, bool]:
    """Turn a feature's values into vectors, and tell whether it is a number.

    A category is a share of 1. A missing number is far from all others, missing shares are 0.
    """
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([[0.0, 9.0] if value is None else [value, 0.0] for value in values], dtype=float), True
    shares = [value if isinstance(value, Mapping) else {} if value is None else {str(value): 1.0} for value in values]
    names = {name: place for place, name in enumerate(dict.fromkeys(name for share in shares for name in share))}
    vectors = np.zeros((len(values), len(names)))
    for vector, share in zip(vectors, shares, strict=True):
        for name, part in share.items():
            vector[names[name]] = part
    return vectors / math.sqrt(2), False


class _Observations(NamedTuple):
    """The observed scores of one target: a row for each distinct pair of stages and settings."""

    stages: NDArray[np.intp]
    settings: NDArray[np.intp]
    values: Array
    """Means, in points."""
    counts: Array
    """Scores in each mean: one for each seed."""

    def rows(self, places: NDArray[np.intp]) -> _Observations:
        return _Observations(self.stages[places], self.settings[places], self.values[places], self.counts[places])


@dataclass(frozen=True)
class _Sizes:
    """Variances of the effects on standardised scores."""

    stage_main: Array
    """Shape (G,)."""
    stage_whole: float
    own_main: float
    own_whole: float
    both: float
    noise: float

    @classmethod
    def of(cls, logarithms: Array) -> _Sizes:
        sizes = np.exp(logarithms)
        return cls(sizes[:-5], *map(float, sizes[-5:]))

    def padded(self, features: int) -> _Sizes:
        """Add the size assumed beforehand of features that were never observed."""
        return replace(self, stage_main=np.append(self.stage_main, [MAIN] * (features - len(self.stage_main))))

    @staticmethod
    def assumed(features: int) -> Array:
        """Return the logarithms of the sizes assumed beforehand, with `features` features of stage recipes."""
        return np.log([MAIN] * features + [WHOLE, MAIN, WHOLE, BOTH, NOISE])


class _TargetPosterior:
    """The posterior of one target's scores: mean and standard deviation at every pair of stages and settings."""

    def __init__(self, stages: _Similarity, own: _Similarity, data: _Observations, pending: _Pending, sizes: _Sizes):
        """
        stages, own: of all recipes and settings to those observed or pending, in the order of `data`, then `pending`
        pending:     pairs that are being scored: they are certain to be known, and are believed to score as expected
        """
        self.sizes = sizes
        self.centre, self.scale = _centre(data.values)
        self._by_stage = 1.0 + np.tensordot(sizes.stage_main, stages.main, 1) + sizes.stage_whole * stages.whole
        self._by_own = sizes.own_main * own.main.sum(0) + sizes.own_whole * own.whole
        self._stage_whole, self._own_whole = stages.whole, own.whole
        self._prior_stage = 1.0 + sizes.stage_main @ stages.main_own + sizes.stage_whole
        self._prior_own = sizes.own_main * own.main_own.sum(0) + sizes.own_whole
        rows = np.concatenate([data.stages, pending.stages]), np.concatenate([data.settings, pending.settings])
        noise = sizes.noise / np.concatenate([data.counts, np.ones(len(pending.stages))])
        covariance = self._covariance(*rows)
        n = len(data.values)
        values = (data.values - self.centre) / self.scale
        if len(noise) > n:
            known = cho_factor(_noisy(covariance[:n, :n], noise[:n]), lower=True)
            values = np.concatenate([values, covariance[n:, :n] @ cho_solve(known, values)])
        factor = cho_factor(_noisy(covariance, noise), lower=True)
        self._weights = cho_solve(factor, values)
        self._factor = np.tril(factor[0])
        self._rows = rows

    @property
    def noise(self) -> float:
        """Return the variance of one score's noise, in points."""
        return self.sizes.noise * self.scale**2

    @cached_property
    def errors(self) -> tuple[NDArray[np.intp], Array]:
        """Stages of each row, and the error of its prediction from all others in standard deviations.

        Source: Rasmussen and Williams 2006, equations 5.10 to 5.12.
        """
        inverse = solve_triangular(self._factor, np.eye(len(self._factor)), lower=True)
        return self._rows[0], self._weights / np.sqrt((inverse**2).sum(0))

    @cached_property
    def means(self) -> Array:
        """Return the expected score of every pair of stages and settings, in points; shape (S, K)."""
        both = (self._stage_whole * self._weights) @ self._own_whole.T
        sums = (self._by_stage @ self._weights)[:, None] + (self._by_own @ self._weights)[None, :]
        return np.asarray(self.centre + self.scale * (sums + self.sizes.both * both))

    def deviations(self, stages: NDArray[np.intp]) -> Array:
        """Return the standard deviations for some stages and all settings, in points; shape (len(stages), K)."""
        settings = np.arange(len(self._by_own))
        rows = np.repeat(stages, len(settings)), np.tile(settings, len(stages))
        explained = solve_triangular(self._factor, self._covariance(*rows).T, lower=True, check_finite=False)
        prior = self._prior_stage[rows[0]] + self._prior_own[rows[1]] + self.sizes.both
        variance = np.maximum(prior - np.einsum("ij,ij->j", explained, explained), 1e-9)
        return np.asarray(self.scale * np.sqrt(variance)).reshape(len(stages), len(settings))

    def _covariance(self, stages: NDArray[np.intp], settings: NDArray[np.intp]) -> Array:
        """Return the covariance of some pairs with those observed or pending; shape (pairs, n)."""
        both = self._stage_whole[stages] * self._own_whole[settings]
        return np.asarray(self._by_stage[stages] + self._by_own[settings] + self.sizes.both * both)


class _Pending(NamedTuple):
    """Pairs of stages and settings that are being scored."""

    stages: NDArray[np.intp]
    settings: NDArray[np.intp]


class ChainModel:
    """Learns what chains score from the scores of their targets.

    Stage recipes and settings go by keys of the caller's, each of which is described by its features once.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = tuple(targets)
        self.stages = _Recipes()
        self.settings = {target: _Recipes() for target in targets}
        self._log: list[tuple[int, str, int, int, float]] = []
        """Ordinal of the telling, target, stages, settings, score."""
        self._tellings = 0
        self._sizes: tuple[int, _Sizes] | None = None

    def tell(self, scores: Sequence[tuple[str, Hashable, Hashable, float]]) -> None:
        """Take the scores that one trial gave: target, stages, settings, points."""
        for target, stages, settings, value in scores:
            place = self.stages.place[stages], self.settings[target].place[settings]
            self._log.append((self._tellings, target, *place, value))
        self._tellings += bool(scores)

    def forget(self) -> None:
        """Forget all scores; the recipes stay."""
        self._log.clear()
        self._tellings, self._sizes = 0, None

    @property
    def tellings(self) -> int:
        """Count the trials that gave scores."""
        return self._tellings

    def posterior(
        self,
        stages: Described,
        settings: Mapping[str, Described],
        pending: Mapping[str, Sequence[tuple[Hashable, Hashable]]],
    ) -> ChainPosterior:
        """Compute what is believed now of all that was observed, and of further recipes.

        settings: by target
        pending:  target -> stages and settings, observed or among these, that are being scored
        """
        all_stages = self.stages.extended(stages)
        sizes = self._learnt().padded(len(all_stages.names))
        columns = np.arange(len(all_stages.features)) if pending else np.arange(len(self.stages.features))
        table = all_stages.similarity(columns)
        posteriors, places = {}, {}
        for target in self.targets:
            data = _kept(self._observed(target, self._tellings))
            own = self.settings[target].extended(settings.get(target, {}))
            pairs = [(all_stages.place[key], own.place[setting]) for key, setting in pending.get(target, ())]
            waiting = _Pending(*(np.array([pair[side] for pair in pairs], dtype=np.intp) for side in (0, 1)))
            rows, own_rows = (np.concatenate(both) for both in zip(data[:2], waiting, strict=True))
            by_stage = _Similarity(table.main[:, :, rows], table.main_own, table.whole[:, rows])
            posteriors[target] = _TargetPosterior(by_stage, own.similarity(own_rows), data, waiting, sizes)
            places[target] = own.place
        return ChainPosterior(posteriors, all_stages.place, places)

    def _learnt(self) -> _Sizes:
        """Learn the sizes of effects from the first so many trials: again whenever these have grown by a tenth."""
        names = self.stages.names
        first = _step_down(self._tellings)
        if self._sizes and self._sizes[0] == first and len(self._sizes[1].stage_main) == len(names):
            return self._sizes[1]
        grams = []
        for target in self.targets:
            data = self._observed(target, first)
            if len(data.values) < ENOUGH:
                continue
            grams.append(_gram(self.stages, self.settings[target], data.rows(_even(len(data.values), MAX_FITTED))))
        self._sizes = first, _Sizes.of(_fit(grams, _Sizes.assumed(len(names))))
        return self._sizes[1]

    def _observed(self, target: str, first: int) -> _Observations:
        """Average what the first so many trials gave for a target, by stages and settings."""
        values: dict[tuple[int, int], list[float]] = defaultdict(list)
        for ordinal, name, stages, settings, value in self._log:
            if name == target and ordinal < first:
                values[stages, settings].append(value)
        places = np.array([*values], dtype=np.intp).reshape(-1, 2)
        means = np.array([sum(given) / len(given) for given in values.values()])
        return _Observations(places[:, 0], places[:, 1], means, np.array([float(len(v)) for v in values.values()]))


@dataclass(frozen=True)
class ChainPosterior:
    """The posterior of every target's scores."""

    targets: Mapping[str, _TargetPosterior]
    stages: Mapping[Hashable, int]
    """Row of each stage recipe."""
    settings: Mapping[str, Mapping[Hashable, int]]
    """Target -> column of its settings."""

    @cached_property
    def correlation(self) -> float:
        """Estimate the correlation of errors for different targets after the same stages, from past errors."""
        by_stage: dict[int, list[float]] = defaultdict(list)
        for posterior in self.targets.values():
            stages, errors = posterior.errors
            for place in np.unique(stages):
                by_stage[int(place)].append(float(errors[stages == place].mean()))
        products = [a * b for errors in by_stage.values() for i, a in enumerate(errors) for b in errors[:i]]
        total = sum(products) + CORRELATION * CORRELATION_PAIRS
        return min(max(total / (len(products) + CORRELATION_PAIRS), 0.0), 0.9)


class _Recipes:
    """Recipes by key, and how alike they are."""

    def __init__(self) -> None:
        self.place: dict[Hashable, int] = {}
        self.features: list[Features] = []

    def extended(self, more: Mapping[Hashable, Features]) -> _Recipes:
        """Return a copy with more recipes."""
        copy = _Recipes()
        copy.place, copy.features = dict(self.place), list(self.features)
        for key, features in more.items():
            copy.describe(key, features)
        return copy

    def describe(self, key: Hashable, features: Features) -> None:
        """Add a recipe, unless it is known."""
        if key not in self.place:
            self.place[key] = len(self.features)
            self.features.append(features)

    @property
    def names(self) -> list[str]:
        """Name the features, in the order in which they were first seen."""
        return list(dict.fromkeys(name for features in self.features for name in features))

    def similarity(self, columns: NDArray[np.intp]) -> _Similarity:
        """Compare all recipes to those at the given places."""
        distinct, inverse = np.unique(columns, return_inverse=True)
        table = _Similarity.between(self.features, [self.features[place] for place in distinct], self.names)
        return _Similarity(table.main[:, :, inverse], table.main_own, table.whole[:, inverse])


def _gram(stages: _Recipes, own: _Recipes, data: _Observations) -> tuple[Array, Array, Array]:
    """Compute the part of each effect in the covariance of observations, with their scores and counts."""
    recipes = [stages.features[place] for place in data.stages]
    settings = [own.features[place] for place in data.settings]
    left, right = (
        _Similarity.between(recipes, recipes, stages.names),
        _Similarity.between(settings, settings, own.names),
    )
    parts = [*left.main, left.whole, right.main.sum(0), right.whole, left.whole * right.whole]
    centre, scale = _centre(data.values)
    return np.stack(parts), (data.values - centre) / scale, data.counts


def _fit(grams: Sequence[tuple[Array, Array, Array]], assumed: Array) -> Array:
    """Maximise the likelihood of all targets' observations times the prior; return logarithms of sizes.

    Source: Rasmussen and Williams 2006, equations 5.8 and 5.9.
    """

    def loss(logarithms: Array) -> tuple[float, Array]:
        sizes = np.exp(logarithms)
        away = (logarithms - assumed) / SIZES_SD
        value, gradient = 0.5 * float(away @ away), away / SIZES_SD
        for parts, scores, counts in grams:
            noise = np.diag(1.0 / counts)
            covariance = np.tensordot(sizes[:-1], parts, 1) + 1.0 + sizes[-1] * noise
            factor = cho_factor(covariance + 1e-8 * np.eye(len(scores)), lower=True, check_finite=False)
            weights = cho_solve(factor, scores, check_finite=False)
            inverse = cho_solve(factor, np.eye(len(scores)), check_finite=False)
            value += 0.5 * float(scores @ weights) + float(np.log(np.diag(factor[0])).sum())
            slope = 0.5 * (inverse - np.outer(weights, weights))
            by_part = np.append(np.tensordot(parts, slope, 2), np.tensordot(noise, slope, 2))
            gradient = gradient + sizes * by_part
        return value, gradient

    if not grams:
        return assumed
    bounds = [(middle - 5.0, middle + 4.0) for middle in assumed]
    found = minimize(loss, assumed, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15})
    return np.asarray(found.x)


def _noisy(covariance: Array, noise: Array) -> Array:
    return covariance + np.diag(noise + 1e-8)


def _centre(values: Array) -> tuple[float, float]:
    """Return mean and standard deviation; of few values a usual one."""
    if not len(values):
        return 0.0, USUAL_SPREAD
    spread = float(values.std()) if len(values) >= ENOUGH else USUAL_SPREAD
    return float(values.mean()), max(spread, 1e-3)


def _kept(data: _Observations) -> _Observations:
    if len(data.values) <= MAX_OBSERVED:
        return data
    best = np.argsort(-data.values, kind="stable")[: MAX_OBSERVED // 2]
    rest = np.setdiff1d(np.arange(len(data.values)), best)[-(MAX_OBSERVED // 2) :]
    return data.rows(np.sort(np.concatenate([best, rest])))


def _even(count: int, most: int) -> NDArray[np.intp]:
    """Spread at most so many indices evenly over a range."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def _step_down(count: int) -> int:
    """Return the largest number up to `count` in a series that grows by about a tenth: 1, 2, ..., 19, 20, 22, ..."""
    step = 0
    while (following := step + max(1, step // 10)) <= count:
        step = following
    return step
